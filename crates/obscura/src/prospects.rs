//! What can be done with a machine, from what it has and lacks.

use std::fmt;

use serde_json::{Value, json};

use crate::machine::Item;

/// The end of what `doctor` says.
pub(crate) fn prospects(items: &[Item]) -> Vec<Prospect> {
    vec![
        Prospect::new("try it out: obscura demo", &[], items),
        Prospect::new("FLUX.1-schnell on the GPU", &["GPU", "model"], items),
        Prospect::new("FLUX.1-schnell on the CPU", &["memory", "model"], items),
        Prospect::new(
            "serve with evidence that verifiers trust",
            &["TEE", "quotes", "RTMR3"],
            items,
        ),
    ]
}

/// Something that can be done with the machine as it is, or cannot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Prospect {
    pub(crate) what: &'static str,
    /// What has to be asked for.
    pub(crate) only_with: Option<&'static str>,
    /// The items that are missing.
    pub(crate) missing: Vec<&'static str>,
}

impl Prospect {
    fn new(what: &'static str, needed: &[&str], items: &[Item]) -> Self {
        let needed = || items.iter().filter(|item| needed.contains(&item.name));
        let missing: Vec<&str> =
            needed().filter(|item| !item.found).map(|item| item.name).collect();
        let only_with = needed().find_map(|item| item.only_with).filter(|_| missing.is_empty());
        Self { what, only_with, missing }
    }

    pub(crate) fn is_possible(&self) -> bool {
        self.missing.is_empty()
    }

    pub(crate) fn to_json(&self) -> Value {
        let Self { what, only_with, missing } = self;
        let possible = self.is_possible();
        let missing = (!possible).then_some(missing);
        json!({ "what": what, "possible": possible, "only_with": only_with, "missing": missing })
    }
}

impl fmt::Display for Prospect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, only_with, missing } = self;
        match only_with {
            _ if !self.is_possible() => write!(f, "no   {what}: {} missing", missing.join(", ")),
            Some(with) => write!(f, "yes  {what}, with {with}"),
            None => write!(f, "yes  {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &'static str, found: bool, only_with: Option<&'static str>) -> Item {
        Item { name, found, detail: String::new(), remedy: None, only_with }
    }

    #[test]
    fn what_must_be_asked_for_is_said_where_it_is_enough() {
        let on_cpu = |has_memory, has_model, only_with| {
            let items = [item("memory", has_memory, only_with), item("model", has_model, None)];
            prospects(&items)[2].to_string()
        };
        let with = Some("--dtype int8");
        assert_eq!(on_cpu(true, true, None), "yes  FLUX.1-schnell on the CPU");
        assert_eq!(on_cpu(true, true, with), "yes  FLUX.1-schnell on the CPU, with --dtype int8");
        assert_eq!(on_cpu(true, false, with), "no   FLUX.1-schnell on the CPU: model missing");
        assert_eq!(
            on_cpu(false, false, None),
            "no   FLUX.1-schnell on the CPU: memory, model missing"
        );
        let json = prospects(&[item("memory", true, with)])[2].to_json();
        assert_eq!((&json["possible"], &json["only_with"]), (&json!(true), &json!("--dtype int8")));
        assert_eq!(json["missing"], Value::Null);
    }
}
