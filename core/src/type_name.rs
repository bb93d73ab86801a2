//! Type names as people write them, and as they stay when a type moves to another module.

/// A type's name without the paths of its parts: `Option<String>`, not `core::option::Option<alloc::string::String>`.
pub fn short_type_name(name: &str) -> String {
    let in_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let mut short = String::new();
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let end = rest.find(|c| !in_path(c)).unwrap_or(rest.len()).max(if in_path(c) { 0 } else { c.len_utf8() });
        let (part, after) = rest.split_at(end);
        short += part.rsplit("::").next().unwrap_or(part);
        rest = after;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::short_type_name;

    #[test]
    fn paths_go_and_structure_stays() {
        let names = [
            ("i64", "i64"),
            ("core::option::Option<alloc::string::String>", "Option<String>"),
            ("(a::B, &'static [u8; 4])", "(B, &'static [u8; 4])"),
            ("d::Json<w::Größe<u32>>", "Json<Größe<u32>>"),
        ];
        assert_eq!(names.map(|(long, _)| short_type_name(long)), names.map(|(_, short)| short));
    }
}
