//! The configuration that the node gets: the measured root's, then what the operator is free to say.

use crate::{
    error::{GuestError, SettingsProblem},
    settings::Value,
};

/// The TOML of both, which have no key in common: a key of the measured root cannot be said again.
///
/// # Errors
/// Where the operator says a key that the measured root decides.
pub fn compose(measured: &str, free: &[(&'static str, Value)]) -> Result<String, GuestError> {
    let mut decided = Vec::new();
    for line in measured.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (key, _) = line.split_once(" = ").ok_or(GuestError::MeasuredConfiguration)?;
        decided.push(key);
    }
    let mut text = measured.to_owned();
    for (key, value) in free {
        if decided.contains(key) {
            // Which line it was is no longer known; the key is not in question where a root is tried first.
            return Err(GuestError::Settings { line: 0, problem: SettingsProblem::Measured });
        }
        text.push_str(&format!("{key} = {value}\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_adds_and_cannot_replace() {
        let measured = "# ours\ntee = \"auto\"\nmax_pixels = 1024\n";
        let eight = Value::Number("8".to_owned());
        let text = compose(measured, &[("queue_capacity", eight.clone())]).unwrap();
        assert_eq!(text, format!("{measured}queue_capacity = 8\n"));
        assert!(compose(measured, &[("max_pixels", eight)]).is_err());
        assert!(compose("tee\n", &[]).is_err());
    }

    /// A table's header would move what follows into the table.
    #[test]
    fn the_images_own_configuration_is_lines_of_keys() {
        for measured in [
            include_str!("../../../attestation/image/node.toml"),
            include_str!("../../../attestation/image/trial.toml"),
        ] {
            assert_eq!(compose(measured, &[]).unwrap(), measured);
            assert!(measured.ends_with('\n'));
        }
    }
}
