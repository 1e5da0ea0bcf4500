#!/usr/bin/env bash
# What `obscura measure` computes, against what real firmware measures: QEMU boots Debian's kernel through OVMF in
# software (TCG), with a software TPM that keeps SHA-384, and every event of the image must be in the firmware's log,
# with the register that they lead to. No TEE: the firmware's events are the same, the one that signs is missing.
#
#   scripts/measured_boot.sh DIR      root's; Debian's packages; about ten minutes the first time, then one to three
#
# DIR keeps a root of Debian trixie with backports (QEMU 11.1, Linux 7.3, edk2 2025.02), about 1 GB. mmdebstrap and
# cpio are needed outside of it.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:?usage: scripts/measured_boot.sh DIR}
obscura=${OBSCURA_BIN:-${CARGO_TARGET_DIR:-target}/debug/obscura}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
for tool in mmdebstrap cpio python3; do
  command -v "$tool" >/dev/null || { echo "needs $tool" >&2; exit 1; }
done
[ -x "$obscura" ] || { echo "no program at $obscura: build it, or name it by OBSCURA_BIN" >&2; exit 1; }
root=$dir/root

if [ ! -e "$root/ready" ]; then
  rm -rf "$root"
  mkdir -p "$dir"
  mmdebstrap --variant=minbase \
    --include=qemu-system-x86,swtpm,swtpm-tools,ovmf,linux-image-cloud-amd64,busybox-static,python3 \
    --aptopt='APT::Default-Release "trixie-backports"' --aptopt='APT::Install-Recommends "false"' \
    trixie "$root" "deb $mirror trixie main" "deb $mirror trixie-backports main"
  touch "$root/ready"
fi

# The guest: a shell that prints the log, and powers off.
work=$root/boot-work
rm -rf "$work"
mkdir -p "$work"/{tree/{bin,proc,sys,dev},tpm,acpi}
cp "$root/usr/bin/busybox" "$work/tree/bin/"
cat >"$work/tree/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc p /proc; $b mount -t sysfs s /sys; $b mount -t devtmpfs d /dev
$b mount -t securityfs k /sys/kernel/security
{
  echo "BEGIN LOG"; $b base64 /sys/kernel/security/tpm0/binary_bios_measurements; echo "END LOG"
  echo "PCR 9 $($b cat /sys/class/tpm/tpm0/pcr-sha384/9)"
} >/dev/ttyS0
$b sleep 1; $b poweroff -f
INIT
chmod +x "$work/tree/init"
(cd "$work/tree" && find . -mindepth 1 | sort | cpio --quiet -o -H newc -R 0:0) >"$work/initrd"
cp "$root"/boot/vmlinuz-* "$work/vmlinuz"
printf 'console=ttyS0 quiet panic=-1 rdinit=/init' >"$work/cmdline"
cp scripts/acpi_tables.py "$work/"

cat >"$work/boot" <<'BOOT'
set -euo pipefail
cd /boot-work
tpm() {
  swtpm socket --tpm2 --tpmstate dir=tpm --ctrl type=unixio,path=tpm/socket --flags startup-clear --terminate &
}
machine=(-machine q35,smm=off -cpu max -m 1024 -smp 2 -nodefaults -no-reboot
  -drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd
  -drive if=pflash,format=raw,unit=1,file=vars.fd
  -chardev socket,id=t,path=tpm/socket -tpmdev emulator,id=tpm0,chardev=t -device tpm-crb,tpmdev=tpm0
  -serial file:serial)
cp /usr/share/OVMF/OVMF_VARS_4M.fd vars.fd
swtpm_setup --tpm2 --tpmstate tpm --pcr-banks sha256,sha384 >/dev/null
tpm
python3 acpi_tables.py acpi qemu-system-x86_64 "${machine[@]}"
wait
tpm
timeout 600 qemu-system-x86_64 -accel tcg,thread=multi -display none "${machine[@]}" \
  -kernel vmlinuz -initrd initrd -append "$(cat cmdline)"
wait
BOOT
echo "booting"
chroot "$root" bash /boot-work/boot

measure() { "$obscura" measure --name live --kernel "$work/vmlinuz" --initrd "$work/initrd" --json "$@"; }
measure --cmdline-file "$work/cmdline" >"$work/computed.json"
measure --cmdline "$(cat "$work/cmdline") single" >"$work/other.json"
python3 - "$work" <<'COMPARE'
import base64, hashlib, json, pathlib, re, struct, sys

work = pathlib.Path(sys.argv[1])
serial = (work / "serial").read_bytes().replace(b"\r", b"")
log = base64.b64decode(re.search(rb"BEGIN LOG\n(.*?)END LOG", serial, re.S)[1])
pcr9 = re.search(rb"PCR 9 ([0-9A-F]{96})", serial)[1].decode().lower()
BYTES = {4: 20, 0xB: 32, 0xC: 48, 0xD: 64}

at, logged = 32 + struct.unpack_from("<I", log, 28)[0], []
while at + 12 <= len(log):
    register, _, count = struct.unpack_from("<III", log, at)
    at += 12
    for _ in range(count):
        kind = struct.unpack_from("<H", log, at)[0]
        if kind == 0xC:
            logged.append((register, log[at + 2 : at + 50].hex()))
        at += 2 + BYTES[kind]
    at += 4 + struct.unpack_from("<I", log, at)[0]

computed, other = (json.loads((work / f"{name}.json").read_text()) for name in ("computed", "other"))
expected = [(event["what"], event["digest"]) for event in computed["events"]]
for name in ("etc-table-loader", "etc-acpi-rsdp", "etc-acpi-tables"):
    expected.append((name, hashlib.sha384((work / "acpi" / name).read_bytes()).hexdigest()))
failed = False
for what, digest in expected:
    found = [register for register, measured in logged if measured == digest]
    failed |= not found
    print(f"{'measured' if found else 'NOT MEASURED':12}  {what}: {digest[:32]}…")
# The TPM's register 9 holds what a TDX guest's RTMR2 does, and nothing else of such a boot.
same, differs = computed["tdx"]["rtmr2"] == pcr9, other["tdx"]["rtmr2"] != pcr9
print(f"RTMR2 as computed is the register: {same}; of another command line it is not: {differs}")
sys.exit(failed or not same or not differs)
COMPARE
echo "all as computed"
