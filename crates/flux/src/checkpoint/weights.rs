//! The tensors of one component, each taken exactly once by the part of the model that owns it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
};

use candle_core::Tensor;

use crate::{Error, Result, storage::Storage};

/// Where a component's tensors come from.
pub(crate) trait TensorSource {
    /// Takes the tensor of this name out, or `None` where there is none (any more). A source that
    /// makes its tensors up gives it `shape`; one that read them leaves the comparison to the caller.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Option<Tensor>>;

    /// Whether [`TensorSource::take`] would find it.
    fn has(&self, name: &str) -> bool;

    /// The names that nobody took, sorted.
    fn rest(&self) -> Vec<String>;
}

/// Tensors by name, as read from files.
impl TensorSource for BTreeMap<String, Tensor> {
    fn take(&mut self, name: &str, _: &[usize]) -> Result<Option<Tensor>> {
        Ok(self.remove(name))
    }

    fn has(&self, name: &str) -> bool {
        self.contains_key(name)
    }

    fn rest(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// One component's tensors, while it is being built.
pub(crate) struct Weights {
    component: &'static str,
    source: RefCell<Box<dyn TensorSource>>,
    /// Names of surplus tensors that published checkpoints are known to carry.
    unused: BTreeSet<String>,
    storage: Storage,
}

impl Weights {
    pub(crate) fn new(component: &'static str, source: impl TensorSource + 'static) -> Self {
        Self {
            component,
            source: RefCell::new(Box::new(source)),
            unused: BTreeSet::new(),
            storage: Storage::default(),
        }
    }

    /// Builds a part of the model from all tensors, and refuses those that it did not take.
    ///
    /// # Errors
    /// Where `build` fails, or tensors are left over.
    pub(crate) fn build<T>(
        mut self,
        build: impl FnOnce(&VarBuilder<'_>) -> Result<T>,
    ) -> Result<T> {
        let built =
            build(&VarBuilder { weights: &self, prefix: String::new(), storage: self.storage })?;
        let mut names = self.source.get_mut().rest();
        names.retain(|name| !self.unused.contains(name));
        if names.is_empty() {
            Ok(built)
        } else {
            Err(Error::SurplusTensors { component: self.component, names })
        }
    }

    /// Has layers keep their weights so.
    pub(crate) fn stored(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// Lets tensors that start with one of `prefixes` be there without being used.
    pub(crate) fn ignore(mut self, prefixes: &[&str]) -> Self {
        let is_ignored = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
        self.unused = self.source.get_mut().rest().into_iter().filter(is_ignored).collect();
        self
    }
}

/// The tensors under one prefix.
pub(crate) struct VarBuilder<'a> {
    weights: &'a Weights,
    /// Empty, or ending in a dot.
    prefix: String,
    /// How layers keep them.
    pub(crate) storage: Storage,
}

impl<'a> VarBuilder<'a> {
    /// The tensors under `{prefix}{part}.`.
    pub(crate) fn pp(&self, part: impl Display) -> VarBuilder<'a> {
        VarBuilder {
            weights: self.weights,
            prefix: format!("{}{part}.", self.prefix),
            storage: self.storage,
        }
    }

    /// Takes a tensor.
    ///
    /// # Errors
    /// Where it is missing or has another shape; both name it.
    pub(crate) fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let component = self.weights.component;
        let name = format!("{}{name}", self.prefix);
        let found = self.weights.source.borrow_mut().take(&name, shape)?;
        let tensor = found.ok_or_else(|| Error::MissingTensor { component, name: name.clone() })?;
        if tensor.dims() != shape {
            let (expected, found) = (shape.to_vec(), tensor.dims().to_vec());
            return Err(Error::MisshapenTensor { component, name, expected, found });
        }
        Ok(tensor)
    }

    /// Whether a tensor of this name is there to be taken.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.weights.source.borrow().has(&format!("{}{name}", self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn weights(shapes: &[(&str, &[usize])]) -> Weights {
        let tensors: BTreeMap<String, Tensor> = shapes
            .iter()
            .map(|&(name, shape)| {
                (name.to_owned(), Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap())
            })
            .collect();
        Weights::new("vae", tensors)
    }

    #[test]
    fn names_what_is_missing() {
        let error = weights(&[("conv.bias", &[2])])
            .build(|vb| vb.pp("conv").get("weight", &[2, 3]))
            .unwrap_err();
        assert!(
            matches!(error, Error::MissingTensor { component: "vae", name } if name == "conv.weight")
        );
    }

    #[test]
    fn names_what_is_misshapen() {
        let error = weights(&[("conv.weight", &[3, 2])])
            .build(|vb| vb.pp("conv").get("weight", &[2, 3]))
            .unwrap_err();
        let Error::MisshapenTensor { name, expected, found, .. } = error else { panic!("{error}") };
        assert_eq!((name.as_str(), expected, found), ("conv.weight", vec![2, 3], vec![3, 2]));
    }

    #[test]
    fn names_what_is_left_over() {
        let error = weights(&[("a", &[1]), ("c", &[1]), ("b", &[1])])
            .build(|vb| vb.get("a", &[1]))
            .unwrap_err();
        assert!(matches!(error, Error::SurplusTensors { names, .. } if names == ["b", "c"]));
    }

    #[test]
    fn known_surplus_is_let_be() {
        let built = weights(&[("decoder.a", &[1]), ("encoder.a", &[1])])
            .ignore(&["encoder."])
            .build(|vb| vb.get("decoder.a", &[1]));
        assert!(built.is_ok());
    }
}
