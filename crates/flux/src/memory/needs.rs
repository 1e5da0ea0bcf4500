//! What models take of memory, told before their weights are read: for planning over several.

use candle_core::DType;

use super::{LargestBatch, WeightBytes, check_host, decoding_inputs_bytes, working::working_bytes};
use crate::{Error, Result, dimensions::Dimensions, host_memory::HostMemory};

/// What a model takes of memory, told before its weights are read.
#[derive(Debug, Clone, Copy)]
pub struct MemoryNeeds {
    weights: WeightBytes,
    /// Beside the weights, while an image is drawn, or LoRAs are merged.
    working_bytes: u64,
    /// In the host's memory, while input images are decoded.
    decoding_inputs_bytes: u64,
    on_gpu: bool,
}

impl MemoryNeeds {
    pub(crate) fn new(
        weights: WeightBytes,
        dimensions: &Dimensions,
        dtype: DType,
        (batch, on_gpu): (LargestBatch, bool),
    ) -> Self {
        let working_bytes = working_bytes(dimensions, dtype, batch);
        let decoding_inputs_bytes = decoding_inputs_bytes(dimensions);
        Self { weights, working_bytes, decoding_inputs_bytes, on_gpu }
    }

    /// The same where so much is taken while it is loaded.
    pub(crate) fn at_least(self, working_bytes: u64) -> Self {
        Self { working_bytes: self.working_bytes.max(working_bytes), ..self }
    }

    /// Of models that share a device, how much each may take: what the others' weights leave. They draw one after
    /// the other. Where not all text encoders have room beside each other on a GPU, all rest in the host's memory.
    ///
    /// # Errors
    /// [`Error::MemoryLimit`] where they have no room together; [`Error::HostMemory`] where those that rest in the
    /// host's memory have none there.
    pub fn share(all: &[Self], limit_bytes: Option<u64>) -> Result<Vec<Option<u64>>, Error> {
        Self::share_within(all, limit_bytes, HostMemory::of_this_machine().total_bytes)
    }

    fn share_within(
        all: &[Self],
        limit_bytes: Option<u64>,
        host_bytes: Option<u64>,
    ) -> Result<Vec<Option<u64>>> {
        let sum = |bytes: &dyn Fn(&Self) -> u64| {
            all.iter().fold(0u64, |sum, needs| sum.saturating_add(bytes(needs)))
        };
        // As many are decoded at once whatever models they are for.
        let decoding = all.iter().map(|needs| needs.decoding_inputs_bytes).max();
        let check_host = |weights: u64| {
            check_host(weights.saturating_add(decoding.unwrap_or_default()), host_bytes)
        };
        check_host(sum(&|needs| if needs.on_gpu { 0 } else { needs.weights.all() }))?;
        let Some(limit_bytes) = limit_bytes else { return Ok(vec![None; all.len()]) };
        let working = all.iter().map(|needs| needs.working_bytes).max().unwrap_or_default();
        let needed = |weights: u64| weights.saturating_add(working);
        let whole = |needs: &Self| needs.weights.all();
        if needed(sum(&whole)) <= limit_bytes {
            let left = limit_bytes - sum(&whole);
            return Ok(all.iter().map(|needs| Some(left + needs.weights.all())).collect());
        }
        let bare = |needs: &Self| match needs.on_gpu {
            true => needs.weights.transformer_and_autoencoder,
            false => needs.weights.all(),
        };
        if needed(sum(&bare)) > limit_bytes {
            return Err(Error::MemoryLimit { limit_bytes, needed_bytes: needed(sum(&bare)) });
        }
        let on_host = |needs: &Self| match needs.on_gpu {
            true => needs.weights.text_encoders,
            false => needs.weights.all(),
        };
        check_host(sum(&on_host))?;
        // Of what is left, no more than lets the text encoders rest elsewhere: the next model needs it too.
        let left = limit_bytes - sum(&bare);
        let of_one = |needs: &Self| {
            let most = bare(needs).saturating_add(left);
            let with_text = needs.weights.all().saturating_add(needs.working_bytes);
            if bare(needs) < needs.weights.all() { most.min(with_text - 1) } else { most }
        };
        Ok(all.iter().map(|needs| Some(of_one(needs))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            MemoryLimit, MemoryPlan,
            tests::{GB, ONE, SCHNELL, schnell},
        },
        *,
    };
    use crate::bench::{Preset, dimensions_of};

    fn plan(share: Option<u64>) -> MemoryPlan {
        let limit = share.map(|bytes| MemoryLimit { bytes, batch: ONE });
        MemoryPlan::new(limit, SCHNELL, &schnell(), DType::BF16, true).unwrap()
    }

    /// On a host with room for whatever rests there.
    fn share(all: &[MemoryNeeds], limit_bytes: Option<u64>) -> Result<Vec<Option<u64>>> {
        MemoryNeeds::share_within(all, limit_bytes, None)
    }

    fn needs(weights: WeightBytes, on_gpu: bool) -> MemoryNeeds {
        MemoryNeeds::new(weights, &schnell(), DType::BF16, (ONE, on_gpu))
    }

    /// The same plans as for one alone, so that each finds its room when it is loaded.
    #[test]
    fn two_models_share_what_one_has_alone() {
        let two = [needs(SCHNELL, true); 2];
        let planned = |limit: u64| -> Vec<bool> {
            let shares = share(&two, Some(limit)).unwrap();
            let plans: Vec<MemoryPlan> = shares.iter().map(|share| plan(*share)).collect();
            let weights: u64 = plans.iter().map(|plan| plan.weight_bytes).sum();
            assert!(weights <= limit);
            plans.iter().map(MemoryPlan::text_on_host).collect()
        };
        assert_eq!(planned(80 * GB), [false, false]);
        assert_eq!(planned(60 * GB), [true, true]);
        assert!(share(&two, None).unwrap().iter().all(Option::is_none));
        for limit in [36 * GB, 48 * GB] {
            let refused = share(&two, Some(limit)).unwrap_err();
            assert!(matches!(refused, Error::MemoryLimit { .. }), "{refused}");
        }
        // One alone would do.
        assert!(share(&two[..1], Some(36 * GB)).is_ok());
    }

    #[test]
    fn more_weights_than_the_host_has_memory_for_are_refused_before_one_is_read() {
        let share = |on_gpu, limit, host_bytes| {
            let shares =
                MemoryNeeds::share_within(&[needs(SCHNELL, on_gpu); 2], limit, Some(host_bytes));
            match shares {
                Ok(_) => true,
                Err(Error::HostMemory { .. }) => false,
                Err(other) => panic!("{other}"),
            }
        };
        // All of both on a CPU; beside a GPU the text encoders of both, where they leave it.
        assert!(!share(false, None, 67 * GB) && share(false, None, 68 * GB));
        assert!(share(true, None, 0) && share(true, Some(80 * GB), 0));
        assert!(!share(true, Some(60 * GB), 19 * GB) && share(true, Some(60 * GB), 20 * GB));
    }

    #[test]
    fn input_images_are_decoded_in_one_place_for_all_models() {
        let klein = dimensions_of(Preset::Klein).unwrap();
        let klein = MemoryNeeds::new(SCHNELL, &klein, DType::BF16, (ONE, false));
        let share = |all: &[MemoryNeeds], beside: u64| {
            let host_bytes = all.len() as u64 * SCHNELL.all() + beside;
            MemoryNeeds::share_within(all, None, Some(host_bytes)).is_ok()
        };
        let of_text = needs(SCHNELL, false);
        assert!(share(&[of_text; 2], 0));
        for all in [&[klein][..], &[of_text, klein], &[klein; 3]] {
            assert!(!share(all, 1_599_999_999) && share(all, 1_600_000_000));
        }
    }
}
