//! What this machine multiplies bf16 with.
//!
//! `OBSCURA_CPU=avx512` leaves AMX alone, `OBSCURA_CPU=avx2` all of AVX-512 too, in products of f32 and int8 as well:
//! to compare them.

use std::{env, sync::OnceLock};

use thiserror::Error;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::{
    super::amx::{Amx, NoAmx},
    avx512::Avx512,
};
use super::{
    super::simd::{VARIABLE, WITH_AMX, WITHOUT_AVX512},
    portable::Portable,
};

/// How bf16 is multiplied, the fastest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// In tiles.
    Amx,
    /// In vectors of pairs.
    Avx512Bf16,
    /// In f32, in vectors as wide as the machine has them.
    Widened,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Amx, Self::Avx512Bf16, Self::Widened];

    /// As `OBSCURA_CPU` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => WITH_AMX,
            Self::Avx512Bf16 => "avx512",
            Self::Widened => WITHOUT_AVX512,
        }
    }

    /// What is told of it.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Amx => "AMX",
            Self::Avx512Bf16 => "AVX-512 BF16",
            Self::Widened => "widened to f32",
        }
    }
}

/// Why no level could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LevelError {
    /// A name that no level has.
    #[error("{VARIABLE}: {name:?} is none of amx, avx512, avx2")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// One that the machine lacks.
    #[error("{VARIABLE}: {} cannot be used: {reason}", level.name())]
    Missing {
        /// What was asked for.
        level: Level,
        /// What is missing.
        reason: String,
    },
}

/// A level, proven to be there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Chosen {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx(Amx),
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Avx512(Avx512),
    Portable(Portable),
}

/// Evaluates an expression with the machine bound to a name, once for each level.
macro_rules! on_machine {
    ($machine:ident => $body:expr) => {
        match $crate::cpu::bf16::level::chosen().map_err(candle_core::Error::wrap)? {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            $crate::cpu::bf16::level::Chosen::Amx($machine) => $body,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            $crate::cpu::bf16::level::Chosen::Avx512($machine) => $body,
            $crate::cpu::bf16::level::Chosen::Portable($machine) => $body,
        }
    };
}
pub(super) use on_machine;

/// What bf16 is multiplied with on this machine.
///
/// # Errors
/// Where the environment asks for what there is not.
pub fn level() -> Result<Level, LevelError> {
    Ok(match chosen()? {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Chosen::Amx(_) => Level::Amx,
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Chosen::Avx512(_) => Level::Avx512Bf16,
        Chosen::Portable(_) => Level::Widened,
    })
}

/// The same; looked up once.
pub(super) fn chosen() -> Result<Chosen, LevelError> {
    static CHOSEN: OnceLock<Result<Chosen, LevelError>> = OnceLock::new();
    // What is no text is no level either, and is refused as such.
    let named = || env::var_os(VARIABLE).map(|name| name.to_string_lossy().into_owned());
    CHOSEN.get_or_init(|| choose(named().as_deref())).clone()
}

/// Whether there is more than f32 to multiply it with.
pub(in crate::cpu) fn is_multiplied_as_such() -> bool {
    level().is_ok_and(|level| level != Level::Widened)
}

/// The best level, or the one that was named.
fn choose(name: Option<&str>) -> Result<Chosen, LevelError> {
    let name = name.map(str::trim).filter(|name| !name.is_empty());
    let Some(name) = name else {
        let best = Level::ALL.into_iter().find_map(|level| try_level(level).ok());
        return Ok(best.unwrap_or(Chosen::Portable(Portable)));
    };
    let level = Level::ALL.into_iter().find(|level| level.name() == name);
    let level = level.ok_or_else(|| LevelError::Unknown { name: name.to_owned() })?;
    try_level(level).map_err(|reason| LevelError::Missing { level, reason })
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn try_level(level: Level) -> Result<Chosen, String> {
    match level {
        Level::Amx => Amx::enable().map(Chosen::Amx).map_err(|error: NoAmx| error.to_string()),
        Level::Avx512Bf16 => Avx512::detect()
            .map(Chosen::Avx512)
            .ok_or_else(|| "the processor has no AVX-512 BF16".to_owned()),
        Level::Widened => Ok(Chosen::Portable(Portable)),
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn try_level(level: Level) -> Result<Chosen, String> {
    match level {
        Level::Amx | Level::Avx512Bf16 => Err("only on x86-64 under Linux".to_owned()),
        Level::Widened => Ok(Chosen::Portable(Portable)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_named_or_the_best_there_is() {
        assert!(choose(None).is_ok() && choose(Some(" ")).is_ok());
        assert!(matches!(choose(Some("avx2")), Ok(Chosen::Portable(_))));
        let error = choose(Some("sse")).unwrap_err();
        assert!(error.to_string().contains("amx, avx512, avx2"), "{error}");
    }

    /// What the machine lacks is said, not replaced.
    #[test]
    fn a_level_that_is_not_there_is_refused() {
        for level in Level::ALL {
            match (try_level(level), choose(Some(level.name()))) {
                (Ok(_), named) => assert!(named.is_ok()),
                (Err(reason), Err(error)) => assert!(error.to_string().contains(&reason)),
                (Err(_), Ok(found)) => panic!("{found:?} instead of {level:?}"),
            }
        }
    }
}
