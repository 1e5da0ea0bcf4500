//! A live SEV-SNP guest's measurement, and the figures that the `sev` crate publishes for its own.

use serde_json::Value;
use sev::measurement::{
    snp::{SnpMeasurementArgs, snp_calc_launch_digest},
    vcpu_types::CpuType,
    vmsa::{GuestFeatures, VMMType},
};

use super::kernel;
use crate::{
    binding::{Digest32, sha256},
    encoding::{hex, unhex, unhex_array},
    measure::{
        CommandLine, CpuModel, Firmware, Image, SnpMachine, Vcpus,
        firmware::{SevKind, SevSection},
        image::ImageHashes,
        snp::{Launch, Layout, snp_launch_digest},
    },
    tests::{fixture, fixture_path},
};

fn machine(cpu: &str, vcpus: u32) -> SnpMachine {
    SnpMachine::new(cpu.parse().unwrap(), Vcpus::new(vcpus).unwrap())
}

fn digest(text: &str) -> Digest32 {
    unhex_array(text).unwrap()
}

/// The inputs were published beside the report, in it.
#[test]
fn a_live_guests_inputs_lead_to_what_its_chip_signed() {
    let published: Value = serde_json::from_slice(&fixture("guest/snp-2cpu.json")).unwrap();
    let published = unhex(published["attestation"].as_str().unwrap()).unwrap();
    let report = published.windows(4).position(|window| window == 3_u32.to_le_bytes()).unwrap();
    let measurement = &published[report + 0x90..][..48];
    let line = "console=ttyS0 init=/init panic=1 net.ifnames=0 biosdevname=0 mce=off oops=panic \
        pci=noearly pci=nommconf random.trust_cpu=y random.trust_bootloader=n tsc=reliable no-kvmclock \
        dstack.rootfs_hash=ca5adaef0ac3a36108035925763b48a5818f634e700fbaab561d419fd30d7121 \
        dstack.rootfs_size=490713088";
    let hashes = ImageHashes {
        kernel: digest("dd9ea274ce9a07090b22e8284b0c841b65c021c2d15ca57d0f16731089dd226c"),
        initrd: digest("5f844c4a2ca5a3d0711b3db38293b21ba929bb8e0b3c5bc1a779a57f69221c19"),
        command_line: sha256(&[line.as_bytes(), b"\0"].concat()),
    };
    let section = |kind, address, bytes| SevSection { kind, address, bytes };
    let layout = Layout {
        sections: vec![
            section(SevKind::Memory, 0x80_0000, 0x9000),
            section(SevKind::Memory, 0x80_a000, 0x3000),
            section(SevKind::Secrets, 0x80_d000, 0x1000),
            section(SevKind::Cpuid, 0x80_e000, 0x1000),
            section(SevKind::CallingArea, 0x80_f000, 0x1000),
            section(SevKind::Memory, 0x81_1000, 0xf000),
            section(SevKind::KernelHashes, 0x81_0000, 0x1000),
        ],
        table: 0x81_0c00,
        reset: 0x80_b004,
    };
    // The firmware itself was not published; its digest was.
    let firmware = || {
        let text = "ffb57e393469a497c0e3b07bd1c97d8611e555f464d14491837665893ac642b2\
                    63a71f9507ff100a847897fe0c3f8c6f";
        Launch(unhex_array(text).unwrap())
    };
    let digest = |hashes, machine| layout.finish(firmware(), hashes, &machine).unwrap();
    assert_eq!(hex(&digest(&hashes, machine("EPYC-v4", 2))), hex(measurement));
    // Another machine, or another initrd, is another digest.
    assert_ne!(digest(&hashes, machine("EPYC-v4", 1))[..], *measurement);
    assert_ne!(digest(&hashes, machine("EPYC-Milan", 2))[..], *measurement);
    let other = ImageHashes { initrd: [1; 32], ..hashes };
    assert_ne!(digest(&other, machine("EPYC-v4", 2))[..], *measurement);
}

/// Figures of `sev` 8.0.0's own tests, for kernel and initrd that are empty; PyPI sev-snp-measure 0.0.13
/// has the same.
#[test]
fn published_figures_come_out() {
    let suffix = fixture("guest/ovmf_AmdSev_suffix.bin");
    let firmware = Firmware::new(&suffix).unwrap();
    let empty = ImageHashes {
        kernel: sha256(b""),
        initrd: sha256(b""),
        command_line: sha256(b"console=ttyS0 loglevel=7\0"),
    };
    let image = Image { kernel: [0; 48], options: [0; 48], initrd: [0; 48], sha256: empty };
    let digest = |machine| hex(&snp_launch_digest(&firmware, &image, &machine).unwrap());
    let one = machine("EPYC-v4", 1);
    assert_eq!(
        digest(one),
        "6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa"
    );
    assert_eq!(
        digest(one.with_features(0x21).unwrap()),
        "803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977"
    );
}

/// The crate reads files and trusts them; ours parses for itself. On good files they agree.
#[test]
fn the_sev_crate_agrees_on_every_model() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let line: CommandLine = "console=ttyS0 obscura.verity=1:2:3:4".parse().unwrap();
    let (kernel, initrd) = (kernel(), b"initrd".to_vec());
    let image = Image::new(&kernel, &initrd, &line).unwrap();
    let suffix = fixture("guest/ovmf_AmdSev_suffix.bin");
    let firmware = Firmware::new(&suffix).unwrap();
    for (name, model, vcpus) in [
        ("EPYC", CpuType::Epyc, 1),
        ("EPYC-IBPB", CpuType::EpycIBPB, 2),
        ("EPYC-Rome-v3", CpuType::EpycRomeV3, 3),
        ("EPYC-Milan", CpuType::EpycMilan, 16),
        ("EPYC-Genoa-v1", CpuType::EpycGenoaV1, 64),
        ("EPYC-Turin", CpuType::EpycTurin, 5),
    ] {
        let theirs = snp_calc_launch_digest(SnpMeasurementArgs {
            vcpus,
            vcpu_type: model,
            ovmf_file: fixture_path("guest/ovmf_AmdSev_suffix.bin"),
            guest_features: GuestFeatures(1),
            kernel_file: Some(write("kernel", &kernel)),
            initrd_file: Some(write("initrd", &initrd)),
            append: Some(line.as_str()),
            ovmf_hash_str: None,
            vmm_type: Some(VMMType::QEMU),
        });
        let ours = snp_launch_digest(&firmware, &image, &machine(name, vcpus)).unwrap();
        assert_eq!(hex(&ours), theirs.unwrap().get_hex_ld(), "{name}");
        assert_eq!(name.parse::<CpuModel>().unwrap().name(), name);
    }
}

/// Without kernel hashes, a digest binds the firmware alone: it is not computed.
#[test]
fn firmware_that_measures_no_kernel_is_refused() {
    let suffix = fixture("guest/ovmf_OvmfX64_suffix.bin");
    let firmware = Firmware::new(&suffix).unwrap();
    let line = "a".parse().unwrap();
    let image = Image::new(&kernel(), b"initrd", &line).unwrap();
    let refusal = snp_launch_digest(&firmware, &image, &machine("EPYC", 1)).unwrap_err();
    assert!(refusal.to_string().contains("hash"), "{refusal}");
}

#[test]
fn what_makes_no_snp_guest_is_refused() {
    assert!(machine("EPYC", 1).with_features(0).is_err());
    assert!(machine("EPYC", 1).with_features(1 << 40 | 1).is_err());
    let refusal = "epyc".parse::<CpuModel>().unwrap_err().to_string();
    assert!(refusal.contains("EPYC-Turin-v2"), "{refusal}");
    assert!(Vcpus::new(0).is_err() && Vcpus::new(4097).is_err());
}
