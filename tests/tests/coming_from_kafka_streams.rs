//! docs/coming-from-kafka-streams.md names what there is, and all there is, and what Kafka Streams has; and where it says that the
//! meaning differs from Kafka Streams, or does not although one might think so, it is right.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use millstream::core::{Half, RuntimeConfig};
use millstream::prelude::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is a folder of the workspace").to_owned()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/coming-from-kafka-streams.md")).expect("the page is there")
}

/// All Rust of a folder, file after file.
fn rust_of(folder: &str) -> String {
    let mut text = String::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                text += &fs::read_to_string(&path).expect("a source");
            }
        }
    }
    text
}

/// The middle column's code, row by row.
fn ours(page: &str) -> Vec<String> {
    let rows = page.lines().filter(|line| line.starts_with('|')).map(|line| line.replace("\\|", "¦"));
    let cells = rows.filter_map(|row| row.split('|').nth(2).map(str::to_owned));
    cells.flat_map(|cell| pieces(&cell).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The pieces of code in a text.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What the page has of Kafka Streams: its code but for the middle column and the examples in Rust.
#[derive(Default)]
struct Theirs {
    /// Pieces as they are, and the names in them.
    named: BTreeSet<String>,
    /// How all names begin for which a piece such as `metrics.…` stands.
    begun: Vec<String>,
    /// Pieces of rows that say **not there**.
    absent: BTreeSet<String>,
}

impl Theirs {
    fn of(page: &str) -> Self {
        let (mut theirs, mut example) = (Theirs::default(), None);
        for line in page.lines() {
            if let Some(language) = line.strip_prefix("```") {
                example = example.is_none().then_some(language);
            } else if example == Some("java") {
                theirs.add(line);
            } else if example.is_none() {
                let row = line.replace("\\|", "¦");
                match row.split('|').collect::<Vec<_>>()[..] {
                    [_, java, ours, differs, _] => {
                        pieces(java).chain(pieces(differs)).for_each(|piece| theirs.add(piece));
                        let absent = pieces(java).filter(|_| ours.contains("**not there**"));
                        theirs.absent.extend(absent.map(str::to_owned));
                    }
                    _ => pieces(&row).for_each(|piece| theirs.add(piece)),
                }
            }
        }
        theirs
    }

    fn add(&mut self, piece: &str) {
        self.named.insert(piece.to_owned());
        self.named.extend(names(piece).into_iter().map(|(name, _)| name));
        let begun = piece.split([' ', '(']).filter_map(|name| name.strip_suffix('…'));
        self.begun.extend(begun.filter(|begun| !begun.is_empty()).map(str::to_owned));
    }

    fn have(&self, name: &str) -> bool {
        self.named.contains(name) || self.begun.iter().any(|begun| name.starts_with(begun))
    }

    /// Whether a class is not there, or the one that it is in, or its package: then none of its methods is.
    fn lack(&self, package: &str, class: &str) -> bool {
        let outer = class.match_indices('.').map(|(at, _)| &class[..at]);
        outer.chain([class, package]).any(|name| self.absent.contains(name))
    }
}

/// Names in a piece of code, each with what follows it.
fn names(code: &str) -> Vec<(String, char)> {
    let mut names = Vec::new();
    let mut name = String::new();
    let mut quoted = false;
    for c in code.chars().chain([' ']) {
        quoted ^= c == '"';
        if !quoted && (c.is_alphanumeric() || c == '_') {
            name.push(c);
        } else if !name.is_empty() {
            names.push((std::mem::take(&mut name), c));
        }
    }
    names
}

#[test]
fn what_the_page_names_is_there() {
    let sources = rust_of("dsl/src") + &rust_of("core/src") + &rust_of("state/src") + &rust_of("src");
    let functions: BTreeSet<&str> = sources
        .split("fn ")
        .skip(1)
        .map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default())
        .collect();
    let words: BTreeSet<&str> = sources.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    let settings: BTreeSet<&str> = millstream::core::SETTINGS.iter().map(|(key, _)| *key).collect();
    let (mut missing, mut found) = (Vec::new(), 0);
    for code in ours(&page()) {
        if code.contains('.')
            && code.chars().all(|c| c.is_ascii_lowercase() || c == '.')
            && !code.starts_with("window.")
        {
            found += 1;
            missing.extend((!settings.contains(code.as_str())).then_some(code));
            continue;
        }
        for (name, next) in names(&code) {
            let is_type = name.starts_with(char::is_uppercase) && name.len() > 2;
            let is_call = next == '(' && !name.starts_with(char::is_uppercase);
            found += usize::from(is_type || is_call);
            if (is_type && !words.contains(name.as_str())) || (is_call && !functions.contains(name.as_str())) {
                missing.push(format!("{name} in {code}"));
            }
        }
    }
    assert!(found > 200, "only {found} names were found on the page");
    assert!(missing.is_empty(), "\n  {}", missing.join("\n  "));
}

#[test]
fn every_operator_and_setting_is_on_the_page() {
    let page = page();
    let named: BTreeSet<String> = ours(&page).iter().flat_map(|code| names(code)).map(|(name, _)| name).collect();
    let sources = rust_of("dsl/src");
    let methods = sources.split("\n    pub fn ").skip(1);
    let mut absent: BTreeSet<&str> = methods
        .map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default())
        // A twin that may fail belongs to its operator.
        .filter(|name| !named.contains(*name) && !named.contains(name.trim_start_matches("try_")))
        .collect();
    absent.extend(
        millstream::core::SETTINGS.iter().map(|(key, _)| *key).filter(|key| !page.contains(&format!("`{key}`"))),
    );
    assert!(absent.is_empty(), "not on the page: {absent:?}");
}

/// The page is for programs of Kafka Streams: what one of them can say is there, or is said not to be.
#[test]
fn every_name_of_kafka_streams_is_on_the_page() {
    let theirs = Theirs::of(&page());
    let list = fs::read_to_string(root().join("tests/java-names.txt")).expect("the list is there");
    let (mut missing, mut looked_up, mut package) = (Vec::new(), 0, "");
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (class, members) = line.split_once(':').unwrap_or(("", line));
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            package = name;
        } else if !theirs.lack(package, class) {
            let simple = class.rsplit('.').next().filter(|simple| !simple.is_empty());
            let wanted = simple.into_iter().chain(members.split_whitespace());
            looked_up += wanted.clone().count();
            let absent = wanted.filter(|name| !theirs.have(name));
            missing.extend(absent.map(|name| format!("{name} of {package} {class}")));
        }
    }
    assert!(looked_up > 500, "only {looked_up} names are in the list");
    assert!(missing.is_empty(), "not on the page:\n  {}", missing.join("\n  "));
}

/// Kafka Streams forgets the time of its windows when it restarts, and takes a record that was late before.
#[test]
fn what_was_late_before_a_restart_is_late_after_it() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<String, String>("in").group_by_key().windowed_by(TimeWindows::of(MIN)).count("n").to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (input, out) = (t.input::<String, String>("in")?, t.output::<Windowed<String>, Option<i64>>("out")?);
    input.pipe_at(60_000, "a", "x");
    assert_eq!(out.read().len(), 1);
    t.restart()?;
    input.pipe_at(59_999, "a", "late");
    assert_eq!((out.read(), t.counters().late_records), (vec![], 1));
    Ok(())
}

/// In Kafka Streams a table without a store passes a deletion on for every row that never matched.
#[test]
fn a_filter_deletes_only_what_it_has_passed_on() -> Result<()> {
    let b = StreamsBuilder::new();
    b.table::<String, i64>("in", "rows").filter(|_, n| *n > 0).to_stream().to("out");
    let t = TopologyTestDriver::new(b.build()?)?;
    let (input, out) = (t.input::<String, i64>("in")?, t.output::<String, Option<i64>>("out")?);
    [-1, 1, -2, -3].into_iter().for_each(|n| input.pipe("a", n));
    assert_eq!(out.read(), [kv("a", Some(1)), kv("a", None)]);
    Ok(())
}

/// Numbers, of which negative ones have no bytes.
#[derive(Clone)]
struct Natural;

impl Serde for Natural {
    type Value = i64;

    fn serialize(
        &self,
        n: &i64,
        _: SerdeContext<'_>,
        _: &mut Headers,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, SerdeError> {
        out.extend(u64::try_from(*n).map_err(|error| SerdeError::invalid(error.to_string()))?.to_be_bytes());
        Ok(Encoded::Bytes)
    }

    fn deserialize(
        &self,
        bytes: Option<Payload<'_>>,
        cx: SerdeContext<'_>,
        headers: &Headers,
    ) -> Result<i64, SerdeError> {
        <i64 as Data>::Serde::default().deserialize(bytes, cx, headers)
    }
}

/// Kafka Streams calls another method of the handler for that, with the half as an argument.
#[test]
fn a_production_handler_is_told_which_half_of_a_record_has_no_bytes() -> Result<()> {
    let b = StreamsBuilder::new();
    b.stream::<i64, i64>("in").to_with("out", Produced::with(Natural, Natural));
    let halves = Arc::new(Mutex::new(Vec::new()));
    let told = halves.clone();
    let production = ExceptionHandler::new(move |context| {
        let Error::Production(failure) = context.error else { return HandlerResponse::Fail };
        let Some(Error::Unencodable(refused)) = failure.source.downcast_ref() else { return HandlerResponse::Fail };
        told.lock().expect("nobody panics").push((refused.topic.clone(), refused.half));
        HandlerResponse::Continue
    });
    let t =
        TopologyTestDriver::with_config(b.build()?, RuntimeConfig { production, ..RuntimeConfig::embedded("test") })?;
    let input = t.input::<i64, i64>("in")?;
    [(1, 2), (-1, 2), (1, -2)].into_iter().for_each(|(key, value)| input.pipe(key, value));
    assert_eq!(t.output::<i64, i64>("out")?.read(), [(1, 2)]);
    assert_eq!(*halves.lock().expect("nobody panics"), [("out".into(), Half::Key), ("out".into(), Half::Value)]);
    Ok(())
}

/// As in Kafka Streams: null values are counted in time windows and sessions, not without windows or in sliding ones.
#[test]
fn which_counts_count_null_values() -> Result<()> {
    let b = StreamsBuilder::new();
    let grouped = b.stream::<String, Option<String>>("in").group_by_key();
    grouped.count("plain").to_stream().to("plain");
    grouped.windowed_by(TimeWindows::of(MIN)).count("time").to_stream().to("time");
    grouped.windowed_by(SessionWindows::of(MIN)).count("session").to_stream().to("session");
    grouped.windowed_by(SlidingWindows::of(MIN)).count("sliding").to_stream().to("sliding");
    let t = TopologyTestDriver::new(b.build()?)?;
    t.input::<String, Option<String>>("in")?.pipe_at(0, "a", None);
    assert_eq!(t.output::<String, Option<i64>>("plain")?.read(), []);
    for (topic, counted) in [("time", 1), ("session", 1), ("sliding", 0)] {
        assert_eq!(t.output::<Windowed<String>, Option<i64>>(topic)?.read().len(), counted, "{topic}");
    }
    Ok(())
}

/// As in Kafka Streams: at gap and grace a session has been let go, and a record can still merge it. Emission on close
/// waits for the next millisecond.
#[test]
fn a_suppressed_session_may_have_two_results_and_a_closed_one_has_not() -> Result<()> {
    let b = StreamsBuilder::new();
    let ms = std::time::Duration::from_millis;
    let sessions = b.stream::<String, String>("in").group_by_key().windowed_by(SessionWindows::of(ms(5)));
    sessions.count("suppressed").suppress_until_closed("wait", BufferConfig::unbounded()).to_stream().to("suppressed");
    sessions.emit_on_close().count("closed").to_stream().to("closed");
    let t = TopologyTestDriver::new(b.build()?)?;
    let input = t.input::<String, String>("in")?;
    for (time, key) in [(0, "a"), (5, "b"), (3, "a"), (100, "c")] {
        input.pipe_at(time, key, "x");
    }
    let results = |topic: &str| -> Result<Vec<(Timestamp, Timestamp, Option<i64>)>> {
        let rows = t.output::<Windowed<String>, Option<i64>>(topic)?.read().into_iter();
        Ok(rows.filter(|(k, _)| k.key == "a").map(|(k, n)| (k.window.start, k.window.end, n)).collect())
    };
    assert_eq!(results("suppressed")?, [(0, 0, Some(1)), (0, 3, Some(2))]);
    assert_eq!(results("closed")?, [(0, 3, Some(2))]);
    Ok(())
}
