//! Proves from a dump that nothing was lost, doubled or torn. It knows the workload, and nothing of how Millstream works.

use std::collections::HashMap;

use serde::de::DeserializeOwned;

use crate::dump::{Dumped, changelog};
use crate::workload::{
    BALANCES, Balance, CHANGES, Counts, LEGS, LISTS, Leg, List, PARTITIONS, Seen, Stamped, TABLE, TRANSFERS, change,
    input, legs, list, transfer,
};

/// Violations that are told one by one; more are counted.
const TOLD: usize = 20;

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// Records looked at.
    pub(crate) records: u64,
    /// Violations.
    pub(crate) violations: u64,
    /// The first of them.
    pub(crate) told: Vec<String>,
}

impl Checked {
    /// Takes note of a violation.
    pub(crate) fn violation(&mut self, text: String) {
        self.violations += 1;
        if self.told.len() < TOLD {
            self.told.push(text);
        }
    }

    fn expect(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.violation(text());
        }
    }
}

/// Checks a dump against what was acknowledged: all of it was drained, so all that follows from it must be there, once.
pub(crate) fn check(seed: u64, acknowledged: &Counts, dump: &[Dumped]) -> Checked {
    let mut checked = Checked { records: dump.len() as u64, ..Checked::default() };
    inputs(seed, acknowledged, dump, &mut checked);
    each_leg_once(seed, acknowledged, dump, &mut checked);
    balances(seed, acknowledged, dump, &mut checked);
    lists(acknowledged, dump, &mut checked);
    table(seed, acknowledged, dump, &mut checked);
    let (accounts, elements) = (changelog("accounts"), changelog("elements"));
    for (store, output) in [(&*accounts, BALANCES), (&*elements, LISTS)] {
        same_rows(&last_values(store, dump), &last_values(output, dump), store, output, &mut checked);
    }
    let rows = last_values(&changelog("rows"), dump);
    let left = of(TABLE, dump).filter_map(|r| Some((r.key.as_deref()?, read::<Seen>(r)?.after)));
    let left: HashMap<&str, Option<i64>> = left.collect();
    let left: HashMap<&str, Vec<u8>> =
        left.into_iter().filter_map(|(key, value)| Some((key, value?.to_be_bytes().to_vec()))).collect();
    let left = left.iter().map(|(key, value)| (*key, value.as_slice())).collect();
    same_rows(&rows, &left, &changelog("rows"), TABLE, &mut checked);
    checked
}

fn of<'a>(topic: &'a str, dump: &'a [Dumped]) -> impl Iterator<Item = &'a Dumped> {
    dump.iter().filter(move |r| *r.topic == *topic)
}

fn at(r: &Dumped) -> String {
    format!("{}-{}@{} key {}", r.topic, r.partition, r.offset, r.key.as_deref().unwrap_or("null"))
}

fn read<T: DeserializeOwned>(r: &Dumped) -> Option<T> {
    serde_json::from_slice(r.value.as_deref()?).ok()
}

/// Reads a record and looks at its stamp: it is whole, and it was written for this topic and for this key.
fn stamped<T: Stamped + DeserializeOwned>(r: &Dumped, checked: &mut Checked) -> Option<(String, T)> {
    let (Some(key), Some(value)) = (r.key.clone(), read::<T>(r)) else {
        checked.violation(format!("{}: it cannot be read", at(r)));
        return None;
    };
    checked.expect(value.is_sound(&r.topic), || format!("{}: its checksum is wrong", at(r)));
    let partition = millstream_core::partition_for_key(key.as_bytes(), PARTITIONS);
    checked.expect(partition == r.partition, || format!("{}: it belongs to partition {partition}", at(r)));
    Some((key, value))
}

fn count(acknowledged: &Counts, topic: &str, partition: i32) -> i64 {
    acknowledged.get(&(topic.to_owned(), partition)).copied().unwrap_or(0)
}

fn inputs(seed: u64, acknowledged: &Counts, dump: &[Dumped], checked: &mut Checked) {
    for topic in [TRANSFERS, CHANGES] {
        let mut next = [0; PARTITIONS as usize];
        for r in of(topic, dump) {
            let seq = &mut next[r.partition as usize];
            checked.expect(r.offset == *seq, || format!("{}: offset {seq} is missing", at(r)));
            let (key, value) = input(seed, topic, r.partition, r.offset);
            let is_same = r.key == key && r.value.as_deref() == Some(&value);
            checked.expect(is_same, || format!("{}: it is not what was fed", at(r)));
            *seq = r.offset + 1;
        }
        for (partition, found) in next.iter().enumerate() {
            let wanted = count(acknowledged, topic, partition as i32);
            checked.expect(*found == wanted, || {
                format!("{topic}-{partition}: {wanted} records were acknowledged, {found} are there")
            });
        }
    }
}

/// How often each leg of each transfer was seen: debit, credit.
struct Legs<'a> {
    seen: HashMap<(i32, i64), [u32; 2]>,
    acknowledged: &'a Counts,
}

impl<'a> Legs<'a> {
    fn new(acknowledged: &'a Counts) -> Self {
        Legs { seen: HashMap::new(), acknowledged }
    }

    fn saw(&mut self, partition: i32, seq: i64, amount: i64) {
        self.seen.entry((partition, seq)).or_default()[usize::from(amount > 0)] += 1;
    }

    fn each_once(&self, topic: &str, checked: &mut Checked) {
        for partition in 0..PARTITIONS {
            for seq in 0..count(self.acknowledged, TRANSFERS, partition) {
                let what = match self.seen.get(&(partition, seq)).copied().unwrap_or_default() {
                    [1, 1] => continue,
                    [0, 0] => "lost: neither leg is there".to_owned(),
                    [0, _] | [_, 0] => "torn: one leg is there without the other".to_owned(),
                    [debits, credits] => format!("doubled: {debits} debits and {credits} credits"),
                };
                checked.violation(format!("{topic}: transfer {partition}/{seq} is {what}"));
            }
        }
        let known = |(partition, seq): (i32, i64)| seq < count(self.acknowledged, TRANSFERS, partition);
        for place in self.seen.keys().filter(|place| !known(**place)) {
            checked.violation(format!("{topic}: transfer {}/{} was never acknowledged", place.0, place.1));
        }
    }
}

/// Of every transfer both legs, once, with what the transfer says, in its order.
fn each_leg_once(seed: u64, acknowledged: &Counts, dump: &[Dumped], checked: &mut Checked) {
    let mut seen = Legs::new(acknowledged);
    let mut last: HashMap<(i32, i32), i64> = HashMap::new();
    for r in of(LEGS, dump) {
        let Some((key, leg)) = stamped::<Leg>(r, checked) else { continue };
        let origin = leg.origin;
        let both = legs(&transfer(seed, origin.partition, origin.seq));
        let is_his = both.iter().any(|(account, l)| *account == key && l.amount == leg.amount);
        checked.expect(is_his, || format!("{}: its transfer has no such leg", at(r)));
        seen.saw(origin.partition, origin.seq, leg.amount);
        let before = last.insert((r.partition, origin.partition), origin.seq);
        checked.expect(before.is_none_or(|before| before <= origin.seq), || {
            format!("{}: transfer {}/{} comes after {before:?}", at(r), origin.partition, origin.seq)
        });
    }
    seen.each_once(LEGS, checked);
}

/// Counters go up by one without a gap, sums follow from legs, all sums together are nothing.
fn balances(seed: u64, acknowledged: &Counts, dump: &[Dumped], checked: &mut Checked) {
    let mut accounts: HashMap<String, Balance> = HashMap::new();
    let mut last: HashMap<(String, i32), i64> = HashMap::new();
    let mut seen = Legs::new(acknowledged);
    for r in of(BALANCES, dump) {
        let Some((key, balance)) = stamped::<Balance>(r, checked) else { continue };
        let origin = balance.origin;
        let both = legs(&transfer(seed, origin.partition, origin.seq));
        let is_his = both.iter().any(|(account, leg)| *account == key && leg.amount == balance.last);
        checked.expect(is_his, || format!("{}: its transfer has no such leg", at(r)));
        seen.saw(origin.partition, origin.seq, balance.last);
        let before = last.insert((key.clone(), origin.partition), origin.seq);
        checked.expect(before.is_none_or(|before| before < origin.seq), || {
            format!("{}: transfer {}/{} comes after {before:?}", at(r), origin.partition, origin.seq)
        });
        let before = accounts.get(&key).cloned().unwrap_or_default();
        checked.expect(balance.count == before.count + 1, || {
            format!("{}: count {} follows {}", at(r), balance.count, before.count)
        });
        checked.expect(balance.sum == before.sum + balance.last, || {
            format!("{}: sum {} follows {} by {}", at(r), balance.sum, before.sum, balance.last)
        });
        accounts.insert(key, balance);
    }
    seen.each_once(BALANCES, checked);
    let total: i64 = accounts.values().map(|balance| balance.sum).sum();
    checked.expect(total == 0, || format!("{BALANCES}: {total} came out of nothing"));
}

/// A list grows by one element at a time, and ends with all of its elements in order.
fn lists(acknowledged: &Counts, dump: &[Dumped], checked: &mut Checked) {
    let mut lists: HashMap<String, Vec<i64>> = HashMap::new();
    for r in of(LISTS, dump) {
        let Some((key, value)) = stamped::<List>(r, checked) else { continue };
        let before = lists.entry(key.clone()).or_default();
        before.push(value.origin.seq);
        checked.expect(*before == value.elements && key == list(value.origin), || {
            format!("{}: {:?} was to be {before:?}", at(r), value.elements)
        });
        *before = value.elements;
    }
    let mut wanted: HashMap<String, Vec<i64>> = HashMap::new();
    for partition in 0..PARTITIONS {
        for seq in 0..count(acknowledged, TRANSFERS, partition) {
            let origin = crate::workload::Stamp { partition, seq, crc: 0 };
            wanted.entry(list(origin)).or_default().push(seq);
        }
    }
    for (key, wanted) in &wanted {
        let found = lists.get(key).map(Vec::as_slice).unwrap_or_default();
        checked
            .expect(found == wanted, || format!("{LISTS} key {key}: it ends as {found:?}, and was to be {wanted:?}"));
    }
    checked.expect(lists.len() <= wanted.len(), || format!("{LISTS}: there are lists of what was never acknowledged"));
}

/// Every change, once and in order, finds its row as the changes before have left it.
fn table(seed: u64, acknowledged: &Counts, dump: &[Dumped], checked: &mut Checked) {
    let mut found: HashMap<(i32, i64), (&Dumped, Seen)> = HashMap::new();
    let mut last: HashMap<String, i64> = HashMap::new();
    for r in of(TABLE, dump) {
        let Some((key, seen)) = stamped::<Seen>(r, checked) else { continue };
        let (partition, seq) = (seen.origin.partition, seen.origin.seq);
        let before = last.insert(key, seq);
        checked.expect(before.is_none_or(|before| before < seq), || {
            format!("{}: change {partition}/{seq} comes after {before:?}", at(r))
        });
        if found.insert((partition, seq), (r, seen)).is_some() {
            checked.violation(format!("{}: change {partition}/{seq} is doubled", at(r)));
        }
    }
    for partition in 0..PARTITIONS {
        let mut rows: HashMap<String, i64> = HashMap::new();
        for seq in 0..count(acknowledged, CHANGES, partition) {
            let (key, change) = change(seed, partition, seq);
            let before = rows.get(&key).copied();
            match change.put {
                Some(value) => drop(rows.insert(key.clone(), value)),
                None => drop(rows.remove(&key)),
            }
            let Some((r, seen)) = found.remove(&(partition, seq)) else {
                checked.violation(format!("{TABLE} key {key}: change {partition}/{seq} is lost"));
                continue;
            };
            checked.expect(r.key.as_ref() == Some(&key) && seen.after == change.put, || {
                format!("{}: it is not change {partition}/{seq}", at(r))
            });
            checked.expect(seen.before == before, || {
                format!("{}: change {partition}/{seq} found {:?}, and was to find {before:?}", at(r), seen.before)
            });
        }
    }
    found.values().for_each(|(r, _)| checked.violation(format!("{}: it was never acknowledged", at(r))));
}

/// The last value of every key of a topic; none for what was deleted.
fn last_values<'a>(topic: &str, dump: &'a [Dumped]) -> HashMap<&'a str, &'a [u8]> {
    let mut rows = HashMap::new();
    for r in dump.iter().filter(|r| *r.topic == *topic) {
        let Some(key) = r.key.as_deref() else { continue };
        match r.value.as_deref() {
            Some(value) => drop(rows.insert(key, value)),
            None => drop(rows.remove(key)),
        }
    }
    rows
}

/// What restores a store is what the output says that it holds.
fn same_rows(
    store: &HashMap<&str, &[u8]>,
    output: &HashMap<&str, &[u8]>,
    changelog: &str,
    topic: &str,
    checked: &mut Checked,
) {
    let text =
        |row: Option<&&[u8]>| row.map_or("nothing".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned());
    for key in store.keys().chain(output.keys().filter(|key| !store.contains_key(*key))) {
        let (stored, told) = (store.get(key), output.get(key));
        checked.expect(stored == told, || {
            format!("{changelog} key {key}: it ends with {}, and {topic} with {}", text(stored), text(told))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{LISTS, Stamp};

    const SEED: u64 = 7;

    fn record<T: Stamped>(dump: &mut Vec<Dumped>, topic: &str, key: &str, value: T) {
        let partition = millstream_core::partition_for_key(key.as_bytes(), PARTITIONS);
        push(dump, topic, partition, Some(key), Some(serde_json::to_vec(&value.sealed(topic)).expect("JSON")));
    }

    fn push(dump: &mut Vec<Dumped>, topic: &str, partition: i32, key: Option<&str>, value: Option<Vec<u8>>) {
        let offset = dump.iter().filter(|r| *r.topic == *topic && r.partition == partition).count() as i64;
        dump.push(Dumped { topic: topic.into(), partition, offset, key: key.map(str::to_owned), value });
    }

    /// What a sound run of some input leaves.
    fn sound() -> (Counts, Vec<Dumped>) {
        let mut counts = Counts::new();
        let mut dump = Vec::new();
        let (mut accounts, mut elements) = (HashMap::<String, Balance>::new(), HashMap::<String, Vec<i64>>::new());
        let mut rows = HashMap::new();
        for seq in 0..100 {
            for partition in 0..PARTITIONS {
                for topic in [TRANSFERS, CHANGES] {
                    let (key, value) = input(SEED, topic, partition, seq);
                    push(&mut dump, topic, partition, key.as_deref(), Some(value));
                    counts.insert((topic.to_owned(), partition), seq + 1);
                }
                let transfer = transfer(SEED, partition, seq);
                let origin = Stamp { partition, seq, crc: 0 };
                for (account, leg) in legs(&transfer) {
                    record(&mut dump, LEGS, &account, leg.clone());
                    let balance = accounts.entry(account.clone()).or_default();
                    let (count, sum) = (balance.count + 1, balance.sum + leg.amount);
                    *balance = Balance { origin, count, sum, last: leg.amount };
                    for topic in [BALANCES, &changelog("accounts")] {
                        let value = serde_json::to_vec(&balance.clone().sealed(BALANCES)).expect("JSON");
                        let partition = millstream_core::partition_for_key(account.as_bytes(), PARTITIONS);
                        push(&mut dump, topic, partition, Some(&account), Some(value));
                    }
                }
                let key = list(origin);
                elements.entry(key.clone()).or_default().push(seq);
                for topic in [LISTS, &changelog("elements")] {
                    let value = List { origin, elements: elements[&key].clone() }.sealed(LISTS);
                    let partition = millstream_core::partition_for_key(key.as_bytes(), PARTITIONS);
                    push(&mut dump, topic, partition, Some(&key), serde_json::to_vec(&value).ok());
                }
                let (key, change) = change(SEED, partition, seq);
                let before = rows.get(&key).copied();
                rows.remove(&key);
                change.put.map(|value| rows.insert(key.clone(), value));
                record(&mut dump, TABLE, &key, Seen { origin, before, after: change.put });
                let value = change.put.map(|value| value.to_be_bytes().to_vec());
                push(&mut dump, &changelog("rows"), partition, Some(&key), value);
            }
        }
        (counts, dump)
    }

    fn last_of(topic: &str, dump: &[Dumped]) -> usize {
        dump.iter().rposition(|r| *r.topic == *topic).expect("a record")
    }

    #[test]
    fn a_sound_run_has_no_violation() {
        let (counts, dump) = sound();
        let checked = check(SEED, &counts, &dump);
        assert_eq!((checked.told, checked.records), (vec![], dump.len() as u64));
    }

    #[test]
    fn what_is_lost_is_told() {
        for topic in [TRANSFERS, CHANGES, LEGS, BALANCES, LISTS, TABLE, &changelog("accounts"), &changelog("rows")] {
            let (counts, mut dump) = sound();
            dump.remove(last_of(topic, &dump));
            assert!(check(SEED, &counts, &dump).violations > 0, "{topic}");
        }
    }

    #[test]
    fn what_is_doubled_is_told() {
        for topic in [TRANSFERS, CHANGES, LEGS, BALANCES, LISTS, TABLE] {
            let (counts, mut dump) = sound();
            dump.push(dump[last_of(topic, &dump)].clone());
            assert!(check(SEED, &counts, &dump).violations > 0, "{topic}");
        }
    }

    #[test]
    fn half_a_transfer_is_told_as_torn() {
        let (counts, mut dump) = sound();
        dump.remove(last_of(LEGS, &dump));
        let checked = check(SEED, &counts, &dump);
        assert!(checked.told.iter().any(|text| text.contains("torn: one leg is there without the other")));
    }

    #[test]
    fn a_changed_byte_is_told() {
        for topic in [TRANSFERS, CHANGES, LEGS, BALANCES, LISTS, TABLE] {
            let (counts, mut dump) = sound();
            let last = last_of(topic, &dump);
            let value = dump[last].value.as_mut().expect("a value");
            let digit = value.iter_mut().rev().find(|b| b.is_ascii_digit()).expect("a number");
            *digit = if *digit == b'1' { b'2' } else { b'1' };
            assert!(check(SEED, &counts, &dump).violations > 0, "{topic}");
        }
    }

    #[test]
    fn what_changes_places_is_told() {
        for topic in [TRANSFERS, LEGS, BALANCES, LISTS, TABLE] {
            let (counts, mut dump) = sound();
            // Two records of the same key.
            let last = last_of(topic, &dump);
            let (key, partition) = (dump[last].key.clone(), dump[last].partition);
            let same = |r: &Dumped| *r.topic == *topic && r.key == key && r.partition == partition;
            let Some(other) = dump[..last].iter().rposition(same) else { continue };
            let value = dump[last].value.clone();
            dump[last].value = dump[other].value.clone();
            dump[other].value = value;
            assert!(check(SEED, &counts, &dump).violations > 0, "{topic}");
        }
    }
}
