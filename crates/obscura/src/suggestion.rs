//! Suggestions for misspelt names: `did you mean …?`.

/// The known name that this one is most like, where one is near.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let close = known.iter().map(|known| (strsim::damerau_levenshtein(name, known), *known));
    close.filter(|(distance, _)| *distance <= 1 + name.len() / 5).min().map(|(_, known)| known)
}
