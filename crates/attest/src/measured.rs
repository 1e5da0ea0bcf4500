//! The launch measurements that a quote holds.

use crate::platform::Platform;

/// Of a TDX quote, version 4 or 5: where its body begins, and where MRTD and RTMR0 are in that
/// (Intel TDX DCAP Quoting Library API, §A.3; 48 bytes each).
const TDX_MRTD: [(u16, usize); 2] = [(4, 48 + 136), (5, 54 + 136)];
const RTMRS_BEHIND_MRTD: usize = 4 * 48;
/// RTMR3 is the guest's own, and not measured before it runs.
const RTMRS: usize = 3;
/// Of a SEV-SNP report: MEASUREMENT (SEV-SNP firmware ABI, table 23).
const SNP_MEASUREMENT: usize = 0x90;

/// The measurements in a quote that nobody has verified yet, 48 bytes each: of a TDX guest MRTD and
/// RTMR0 to RTMR2, of a SEV-SNP guest its launch digest. `None` where the quote is too short or of another
/// version.
#[must_use]
pub fn measurements(platform: Platform, quote: &[u8]) -> Option<Vec<[u8; 48]>> {
    let at = |place: usize| quote.get(place..)?.first_chunk::<48>().copied();
    match platform {
        Platform::Tdx | Platform::Simulated => {
            let version = u16::from_le_bytes(*quote.first_chunk()?);
            let (_, mrtd) = TDX_MRTD.into_iter().find(|(known, _)| *known == version)?;
            let rtmr = |number| mrtd + RTMRS_BEHIND_MRTD + 48 * number;
            std::iter::once(mrtd).chain((0..RTMRS).map(rtmr)).map(at).collect()
        }
        Platform::Snp => at(SNP_MEASUREMENT).map(|digest| vec![digest]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_lie_where_the_layout_says() {
        let mut quote = vec![0; 48 + 584];
        quote[0] = 4;
        for (number, place) in [(1, 136), (2, 328), (3, 376), (4, 424), (5, 472)] {
            quote[48 + place..][..48].fill(number);
        }
        let expected: Vec<_> = (1..5).map(|number| [number; 48]).collect();
        assert_eq!(measurements(Platform::Tdx, &quote), Some(expected));
        assert_eq!(measurements(Platform::Tdx, &quote[..300]), None);
        assert_eq!(measurements(Platform::Tdx, &[]), None);
        quote[0] = 3;
        assert_eq!(measurements(Platform::Tdx, &quote), None);
        let mut report = vec![0; 1184];
        report[0x90..][..48].fill(7);
        assert_eq!(measurements(Platform::Snp, &report), Some(vec![[7; 48]]));
    }
}
