//! Which models evidence names.

use sha2::{Digest, Sha256};

use crate::{Report, binding::Digest32};

/// What begins the lines between models, where there are several.
const SEPARATOR: &[u8] = b"model ";

/// One of a node's models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedModel {
    /// The name that requests use; `None` where the node has this model alone, whose name evidence does not tell.
    pub name: Option<String>,
    /// SHA-256 of its own manifest, by which statements about images name it.
    pub manifest: Digest32,
}

impl ReportedModel {
    /// Whether it is the model of this name, as far as evidence tells.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name.as_deref().is_none_or(|own| own == name)
    }
}

impl Report {
    /// The models of its manifest: the one that it is of, or those behind lines `model NAME`. Nobody vouches for
    /// them before the report is accepted.
    #[must_use]
    pub fn models(&self) -> Vec<ReportedModel> {
        let manifest = &self.model_manifest[..];
        let digest = |text: &[u8]| Sha256::digest(text).into();
        if !manifest.starts_with(SEPARATOR) {
            return vec![ReportedModel { name: None, manifest: digest(manifest) }];
        }
        let mut models: Vec<(String, Vec<u8>)> = Vec::new();
        for line in manifest.split_inclusive(|byte| *byte == b'\n') {
            match (line.strip_prefix(SEPARATOR), models.last_mut()) {
                (None, Some((_, text))) => text.extend(line),
                (name, _) => {
                    let name = name.unwrap_or_default();
                    let name = name.strip_suffix(b"\n").unwrap_or(name);
                    models.push((String::from_utf8_lossy(name).into_owned(), Vec::new()));
                }
            }
        }
        let model = |(name, text): (String, Vec<u8>)| ReportedModel {
            name: Some(name),
            manifest: digest(&text),
        };
        models.into_iter().map(model).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Platform, tests::empty_report};

    fn models(manifest: &[u8]) -> Vec<ReportedModel> {
        let report = Report { model_manifest: manifest.to_vec(), ..empty_report(Platform::Tdx) };
        report.models()
    }

    #[test]
    fn each_model_is_named_by_its_own_lines() {
        let digest = |text: &[u8]| -> Digest32 { Sha256::digest(text).into() };
        let (one, two) =
            (b"00  7  weights\n".as_slice(), b"01  8  weights\nlora 1  02 9\n".as_slice());
        let alone = ReportedModel { name: None, manifest: digest(two) };
        assert_eq!(models(two), [alone.clone()]);
        assert!(alone.is_called("anything"));

        let several = [b"model a/b\n", one, b"model c d\n", two].concat();
        let [first, second] = &models(&several)[..] else { panic!("two models") };
        assert_eq!((first.name.as_deref(), first.manifest), (Some("a/b"), digest(one)));
        assert_eq!((second.name.as_deref(), second.manifest), (Some("c d"), digest(two)));
        assert!(first.is_called("a/b") && !first.is_called("c d"));

        // What no node writes is read without panic.
        for odd in
            [&b""[..], b"model", b"model ", b"model \n", b"model \xff\nmodel x", b"\nmodel x\n"]
        {
            assert!(!models(odd).is_empty());
        }
    }
}
