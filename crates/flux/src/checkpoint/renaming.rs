//! What a publisher's single file calls the transformer's tensors, and what diffusers calls them.
//!
//! A name that is not known is kept, and so refused as a surplus tensor under the name it has in its file. LoRAs
//! name layers in the same two ways, or with underscores for the dots.

use candle_core::Tensor;

use crate::Result;

/// Tensors under the names that the model's parts ask for.
pub(crate) type NamedTensors = Vec<(String, Tensor)>;

/// The publisher's name, then diffusers'.
type NamePair = [&'static str; 2];

/// Names of one kind of model.
pub(crate) struct Renaming {
    /// Of layers outside of blocks.
    pub(crate) outer: &'static [NamePair],
    /// Of parts of double blocks.
    pub(crate) double: &'static [NamePair],
    /// Of parts of single blocks.
    pub(crate) single: &'static [NamePair],
    /// Of single blocks, what the publisher has as one layer and diffusers as several.
    pub(crate) split: Option<Split>,
}

/// A layer whose rows are those of two others, one above the other.
pub(crate) struct Split {
    pub(crate) whole: &'static str,
    pub(crate) parts: [&'static str; 2],
    /// How the rows are divided.
    pub(crate) shares: [usize; 2],
}

/// Queries, keys and values: one layer, or three of as many rows each.
pub(crate) struct FusedQkv {
    pub(crate) whole: &'static str,
    pub(crate) parts: [&'static str; 3],
}

/// Of an image's stream, and of single blocks.
pub(crate) const IMAGE_QKV: FusedQkv =
    FusedQkv { whole: "to_qkv", parts: ["to_q", "to_k", "to_v"] };

/// Of a text's stream.
pub(crate) const TEXT_QKV: FusedQkv =
    FusedQkv { whole: "to_added_qkv", parts: ["add_q_proj", "add_k_proj", "add_v_proj"] };

/// The last modulation, which has shift before scale in the publisher's file, and scale before shift in diffusers'.
const SWAPPED: &str = "final_layer.adaLN_modulation.1";

/// As ComfyUI saves the publisher's names.
const COMFY_PREFIX: &str = "model.diffusion_model.";

/// Where a file has a block, and diffusers.
const DOUBLE: NamePair = ["double_blocks", "transformer_blocks"];
const SINGLE: NamePair = ["single_blocks", "single_transformer_blocks"];

/// Blocks of one kind.
struct Blocks<'a> {
    at: NamePair,
    /// Of their parts.
    names: &'static [NamePair],
    split: Option<&'a Split>,
}

impl Renaming {
    /// What one tensor of the publisher's file is in diffusers' layout. Parts share the tensor's memory.
    ///
    /// # Errors
    /// Where a tensor operation fails.
    pub(crate) fn rename(&self, name: String, tensor: Tensor) -> Result<NamedTensors> {
        let bare = name.strip_prefix(COMFY_PREFIX).unwrap_or(&name);
        let Some((stem, kind)) = bare.rsplit_once('.').filter(|_| tensor.rank() > 0) else {
            return Ok(vec![(name, tensor)]);
        };
        // The publisher's norms have a `scale`, everybody else's a `weight`.
        let kind = match kind {
            "scale" if stem.ends_with("_norm") => "weight",
            "weight" | "bias" => kind,
            // `scale_weight`, for instance: a layer in 8 bits, which this is not the form of.
            _ => return Ok(vec![(name, tensor)]),
        };
        if let Some(ours) = ours(self.outer, stem) {
            let tensor = if stem == SWAPPED { swap_halves(&tensor)? } else { tensor };
            return Ok(vec![(format!("{ours}.{kind}"), tensor)]);
        }
        for Blocks { at: [theirs_at, ours_at], names, split } in self.blocks() {
            let Some((number, part)) = numbered(stem, theirs_at, '.') else { continue };
            let at = |inner: &str| format!("{ours_at}.{number}.{inner}.{kind}");
            if let Some(ours) = ours(names, part) {
                return Ok(vec![(at(ours), tensor)]);
            }
            if let Some(split) = split.filter(|split| split.whole == part) {
                let rows = tensor.dim(0)?;
                let of_first = rows / split.shares.iter().sum::<usize>() * split.shares[0];
                return Ok(vec![
                    (at(split.parts[0]), tensor.narrow(0, 0, of_first)?),
                    (at(split.parts[1]), tensor.narrow(0, of_first, rows - of_first)?),
                ]);
            }
        }
        Ok(vec![(name, tensor)])
    }

    /// The layer that a name with underscores for dots means, by the publisher's name or by diffusers'.
    pub(crate) fn dotted(&self, underscored: &str) -> Option<String> {
        let is_meant = |name: &str| underscores(name).eq(underscored.bytes());
        let outer = self.outer.iter().flatten().find(|name| is_meant(name));
        if let Some(name) = outer {
            return Some((*name).to_owned());
        }
        for Blocks { at: ats, names, split } in self.blocks() {
            for (side, at) in ats.into_iter().enumerate() {
                let Some((number, part)) = numbered(underscored, at, '_') else { continue };
                let is_part = |name: &str| underscores(name).eq(part.bytes());
                let of_split = split.into_iter().flat_map(|split| match side {
                    0 => vec![split.whole],
                    _ => split.parts.to_vec(),
                });
                let of_table = names.iter().map(|pair| pair[side]);
                let qkv = [IMAGE_QKV, TEXT_QKV].into_iter().flat_map(|qkv| qkv.parts);
                let qkv = qkv.map(|part| format!("attn.{part}"));
                let mut all = of_table.chain(of_split).map(str::to_owned).chain(qkv);
                if let Some(inner) = all.find(|name| is_part(name)) {
                    return Some(format!("{at}.{number}.{inner}"));
                }
            }
        }
        None
    }

    /// Where blocks of a kind are, what their parts are called, and what of them is split.
    fn blocks(&self) -> [Blocks<'_>; 2] {
        [
            Blocks { at: DOUBLE, names: self.double, split: None },
            Blocks { at: SINGLE, names: self.single, split: self.split.as_ref() },
        ]
    }
}

/// The layers that queries, keys and values of a fused one are, of as many rows each.
pub(crate) fn unfused(layer: &str) -> Option<[String; 3]> {
    let (at, last) = layer.rsplit_once('.')?;
    let qkv = [IMAGE_QKV, TEXT_QKV].into_iter().find(|qkv| qkv.whole == last)?;
    Some(qkv.parts.map(|part| format!("{at}.{part}")))
}

/// (2·n, …) → the same with its second half first.
fn swap_halves(tensor: &Tensor) -> Result<Tensor> {
    let halves = tensor.chunk(2, 0)?;
    Ok(Tensor::cat(&halves.iter().rev().collect::<Vec<_>>(), 0)?)
}

/// diffusers' name of what the publisher calls `theirs`.
fn ours(names: &[NamePair], theirs: &str) -> Option<&'static str> {
    names.iter().find(|pair| pair[0] == theirs).map(|pair| pair[1])
}

/// `{at}{separator}{number}{separator}{part}` → number and part.
fn numbered<'a>(name: &'a str, at: &str, separator: char) -> Option<(usize, &'a str)> {
    let rest = name.strip_prefix(at)?.strip_prefix(separator)?;
    let (number, part) = rest.split_once(separator)?;
    // As it is written again: no sign, no zeros in front.
    let is_plain = number == "0" || !number.starts_with(['0', '+']);
    Some((number.parse().ok().filter(|_| is_plain)?, part))
}

fn underscores(name: &str) -> impl Iterator<Item = u8> + '_ {
    name.bytes().map(|byte| if byte == b'.' { b'_' } else { byte })
}
