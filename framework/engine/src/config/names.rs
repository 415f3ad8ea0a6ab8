//! Suggestions for unknown names.

/// Returns `did you mean "x"?` if a known name is similar, or else lists the known names.
pub(crate) fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().max(name.len()).div_ceil(3));
    match nearest {
        Some((_, candidate)) => Some(format!("did you mean \"{candidate}\"?")),
        None if known.is_empty() => None,
        None => Some(format!("known: {}", known.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_name_is_suggested_or_all_are_listed() {
        let known = ["stdout", "filter"];
        assert_eq!(suggest("stduot", known).unwrap(), "did you mean \"stdout\"?");
        assert_eq!(suggest("kafka", known).unwrap(), "known: stdout, filter");
        assert_eq!(suggest("kafka", []), None);
    }
}
