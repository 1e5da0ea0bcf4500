//! Tensors that published checkpoints carry and this crate has no use for, by their names: what is ignored is
//! ignored before its type and its shape are judged.

/// What names of a component's unused tensors begin with.
fn prefixes(component: &str) -> &'static [&'static str] {
    match component {
        // Position ids are a constant that older files carry; the projection is for comparing with images.
        "text_encoder" => &[
            "text_model.embeddings.position_ids",
            "embeddings.position_ids",
            "text_projection.",
            "logit_scale",
            "vision_model.",
            "visual_projection.",
        ],
        // Only the encoder's half is used.
        "text_encoder_2" => &["decoder.", "lm_head."],
        // Images are only decoded here.
        "vae" => &["encoder.", "quant_conv."],
        _ => &[],
    }
}

/// Whether a component has no use for a tensor.
pub(super) fn is_ignored(component: &str, name: &str) -> bool {
    prefixes(component).iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_depends_on_the_component() {
        assert!(is_ignored("vae", "encoder.conv_in.weight"));
        assert!(!is_ignored("vae", "decoder.conv_in.weight"));
        assert!(is_ignored("text_encoder_2", "decoder.block.0.layer.0.SelfAttention.q.weight"));
        assert!(!is_ignored("text_encoder_2", "encoder.block.0.layer.0.SelfAttention.q.weight"));
        assert!(is_ignored("text_encoder", "text_projection.weight"));
        assert!(!is_ignored("transformer", "encoder."));
    }
}
