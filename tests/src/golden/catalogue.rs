//! The sections of `tests/golden/CATALOGUE.md` and the topologies that each lists, for `--only`.

const CATALOGUE: &str = include_str!("../../golden/CATALOGUE.md");

/// A section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its heading in small letters with dashes: `stream-joins`.
    pub name: String,
    /// Its topologies.
    pub topologies: Vec<String>,
}

/// All sections that list topologies.
pub fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in CATALOGUE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let heading = heading.split(" (").next().unwrap_or(heading);
            sections.push(Section { name: heading.to_lowercase().replace(' ', "-"), topologies: Vec::new() });
        } else if let (Some(row), Some(section)) = (line.strip_prefix("| "), sections.last_mut()) {
            let names = row.split('|').next().unwrap_or_default();
            section.topologies.extend(spelt_out(names).into_iter().filter(|name| name != "topology"));
        }
    }
    sections.retain(|section| !section.topologies.is_empty());
    sections
}

/// `a-inner-join / -left-join` is `a-inner-join` and `a-left-join`.
fn spelt_out(names: &str) -> Vec<String> {
    let names: Vec<&str> = names.split([',', '/']).map(str::trim).collect();
    let stem = names.first().and_then(|first| first.split_once("-inner-")).map_or("", |(stem, _)| stem);
    names.iter().map(|name| if name.starts_with('-') { format!("{stem}{name}") } else { (*name).to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::sections;

    #[test]
    fn the_catalogue_lists_the_traces_that_are_there() {
        let listed: BTreeSet<String> = sections().into_iter().flat_map(|s| s.topologies).collect();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
        let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let there: BTreeSet<String> = files.filter_map(|f| Some(f.strip_suffix(".json")?.to_owned())).collect();
        assert_eq!(listed, there);
    }
}
