//! The known word that a mistyped one was probably meant to be.

/// The candidate with the fewest edits from `word`, if four are enough and most of the word stays.
///
/// ```
/// use millstream_core::nearest_word;
///
/// let known = ["help", "stdin", "num.stream.threads"];
/// assert_eq!(nearest_word("num.streams.thread", known.into_iter()), Some("num.stream.threads"));
/// assert_eq!(nearest_word("stdn", known.into_iter()), Some("stdin"));
/// assert_eq!(nearest_word("foo", known.into_iter()), None);
/// ```
pub fn nearest_word<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = 4.min(word.chars().count() / 2);
    candidates
        .map(|known| (edits(known, word), known))
        .min()
        .filter(|(edits, _)| *edits <= most)
        .map(|(_, known)| known)
}

fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
