//! What no node would start with, found before there is one.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use node::Config;

use crate::{
    model,
    settings::{Launch, LaunchModel, Settings},
};

impl Settings {
    /// What a node is made of and what it is to know, each setting held against what it may be and against the
    /// others. Looks at no hardware and at no file, so that it says the same on every machine.
    ///
    /// # Errors
    /// Where a node would not start with them.
    pub(crate) fn checked(&self) -> anyhow::Result<(Launch, Config)> {
        let (launch, config) = (self.launch()?, self.node()?);
        config.check()?;
        let mut names = BTreeSet::new();
        for LaunchModel { on_devices, id } in &launch.models {
            let first = on_devices.first().context("`device` names none")?;
            let name = model::id(first, id.as_deref())?;
            ensure!(
                names.insert(name.clone()),
                "`model` ({}): two models are called {name}: give one of them another `model_id`",
                self.source("model")
            );
        }
        Ok((launch, config))
    }
}
