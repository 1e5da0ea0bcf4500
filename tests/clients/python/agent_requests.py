"""What Kata's runtime asks the agent in the guest for, for deploy/kubernetes/node.yaml, and the agent's answer.

The forms are those of Kata Containers 4.1: src/libs/protocols/protos/agent.proto as JSON, made as by
src/runtime/virtcontainers/kata_agent.go; containerd's part as in src/tools/genpolicy. No cluster has sent them."""


import base64
import json
import stat
import tomllib
from pathlib import Path

import regorus
import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/kubernetes"
INITDATA = tomllib.loads((FOLDER / "initdata.toml").read_text())
POLICY = INITDATA["data"]["policy.rego"]
POD = next(yaml.safe_load_all((FOLDER / "node.yaml").read_text()))["spec"]["template"]["spec"]
(NODE,) = POD["containers"]
(PINNED,) = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["images"]
IMAGE = f"{PINNED['newName']}@{PINNED['digest']}"

ID, OTHER = "a1" * 32, "b2" * 32
SHARED = "/run/kata-containers/shared/containers"
USUAL = [
    f"CAP_{name}"
    for name in "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT "
    "KILL AUDIT_WRITE".split()
]
SETS = ("Ambient", "Bounding", "Effective", "Inheritable", "Permitted")

GPU = {
    "id": "vfio0", "type_": "vfio-pci-gk", "vm_path": "", "container_path": "/dev/vfio/devices/vfio0",
    "options": ["0000:65:00.0=06/00"],
}


def allowed(kind, request, policy=POLICY):
    engine = regorus.Engine()
    engine.set_rego_v0(True)  # As the agent's is.
    engine.add_data_json('{"pstate": {}}')
    engine.add_policy("agent_policy", policy)
    engine.set_input_json(json.dumps(request))
    try:
        result = engine.eval_query(f"data.agent_policy.{kind}")["result"]
    except RuntimeError:
        return False
    # Without a result the agent refuses, as it does with an error.
    return bool(result) and result[0]["expressions"][0]["value"] is True


def kernel_mount(destination, kind, options):
    return {"destination": destination, "source": kind, "type_": kind, "options": options.split()}


def bound(destination, source, options):
    return {"destination": destination, "source": source, "type_": "bind", "options": options.split()}


def copied(destination, options, container=ID):
    return bound(destination, f"{SHARED}/{container}-0123456789abcdef-{destination.rsplit('/', 1)[1]}", options)


def pull(kind, source):
    metadata = {"metadata": {"io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.image-name": "any"}}
    return {
        "driver": "image_guest_pull", "driver_options": ["image_guest_pull=" + json.dumps(metadata)], "source": source,
        "fstype": "overlay", "options": [], "mount_point": f"/run/kata-containers/{ID}/rootfs", "fs_group": None, "shared": False,
    }


def storage(driver, source, fstype, mount_point, options):
    return {
        "driver": driver, "driver_options": [], "source": source, "fstype": fstype, "options": options,
        "mount_point": mount_point, "fs_group": None, "shared": False,
    }


def container(kind, args, storages):
    process = {
        "Terminal": False, "ConsoleSize": None, "Args": args, "Cwd": "/", "NoNewPrivileges": True, "Rlimits": [],
        "User": {"UID": 65532, "GID": 65532, "AdditionalGids": [65532], "Username": ""},
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=node-6f7c9d5b8-x2x7z",
            "KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443", "KUBERNETES_SERVICE_PORT_HTTPS=443",
            "KUBERNETES_PORT=tcp://10.96.0.1:443", "KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443",
            "KUBERNETES_PORT_443_TCP_PROTO=tcp", "KUBERNETES_PORT_443_TCP_PORT=443", "KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1",
        ],
        "Capabilities": dict.fromkeys(SETS, []), "ApparmorProfile": "cri-containerd.apparmor.d", "OOMScoreAdj": -997,
        "SelinuxLabel": "",
    }
    linux = {
        "UIDMappings": [], "GIDMappings": [], "Sysctl": {}, "CgroupsPath": f"kubepods-pod1.slice:cri-containerd:{ID}",
        "Namespaces": [{"Type": name, "Path": ""} for name in ("ipc", "uts", "mount")], "Devices": [], "Seccomp": None,
        "RootfsPropagation": "", "MountLabel": "", "IntelRdt": None,
        "MaskedPaths": [
            "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
            "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
        ],
        "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        "Resources": {
            "Devices": [], "Memory": {"Limit": 68719476736, "Swap": 0}, "CPU": {"Shares": 8192, "Quota": 800000, "Cpus": ""},
            "Pids": None, "BlockIO": None, "HugepageLimits": [], "Network": None,
        },
    }
    mounts = [
        kernel_mount("/proc", "proc", "nosuid noexec nodev"),
        kernel_mount("/dev", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
        kernel_mount("/dev/pts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
        kernel_mount("/dev/mqueue", "mqueue", "nosuid noexec nodev"),
        kernel_mount("/sys", "sysfs", "nosuid noexec nodev ro"),
        copied("/etc/resolv.conf", "rbind rprivate ro"),
        bound("/dev/shm", "/run/kata-containers/sandbox/shm", "rbind"),
    ]
    annotations = {
        "io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": OTHER,
        "io.katacontainers.pkg.oci.bundle_path": f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}",
        "io.katacontainers.pkg.oci.container_type": f"pod_{kind}",
        "io.katacontainers.config.hypervisor.cc_init_data": "H4sI",
    }
    oci = {
        "Version": "1.2.1", "Process": process, "Root": {"Path": f"/run/kata-containers/{ID}/rootfs", "Readonly": True},
        "Hostname": "", "Mounts": mounts, "Hooks": None, "Annotations": annotations, "Linux": linux, "Solaris": None, "Windows": None,
    }
    return {
        "container_id": ID, "exec_id": ID, "string_user": None, "devices": [], "storages": storages, "OCI": oci,
        "sandbox_pidns": False, "shared_mounts": [], "stdin_port": 0, "stdout_port": 0, "stderr_port": 0,
    }


def sandbox():
    request = container("sandbox", ["/pause"], [pull("sandbox", "pause")])
    usual = {name: USUAL for name in ("Bounding", "Effective", "Permitted")}
    request["OCI"]["Process"]["Capabilities"] = {**dict.fromkeys(SETS, []), **usual}
    request["OCI"]["Annotations"]["nerdctl/network-namespace"] = "/var/run/netns/cni-1"
    request["OCI"]["Linux"]["Sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0"}
    return request


def node():
    """As node.yaml says, with the model's files copied, as Kata does with a volume of files."""
    events = "/run/kata-containers/sandbox/ephemeral/events"
    storages = [pull("container", IMAGE), storage("ephemeral", "tmpfs", "tmpfs", events, [])]
    request = container("container", ["/usr/bin/obscura", *NODE["args"]], storages)
    process = request["OCI"]["Process"]
    process["Env"] += [f"{variable['name']}={variable['value']}" for variable in NODE["env"]]
    mounts = request["OCI"]["Mounts"]
    mounts.append(kernel_mount("/sys/fs/cgroup", "cgroup", "nosuid noexec nodev relatime ro nsdelegate"))
    mounts += [copied(path, "rbind rprivate rw") for path in ("/etc/hosts", "/dev/termination-log", "/etc/hostname")]
    for volume in NODE["volumeMounts"]:
        path = volume["mountPath"]
        mounts.append(copied(path, "rbind rprivate ro") if volume.get("readOnly") else bound(path, events, "rbind rprivate rw"))
    request["OCI"]["Annotations"] |= {
        "io.kubernetes.cri.container-name": "node", "io.kubernetes.cri.image-name": IMAGE, "cdi.k8s.io/vfio0": "nvidia.com/gpu=0",
    }
    request["devices"] = [dict(GPU)]
    return request


def disk(request, source="02/00"):
    """The model as a disk."""
    path = "/run/kata-containers/sandbox/storage/" + base64.urlsafe_b64encode(source.encode()).decode()
    request["storages"].append(storage("blk", source, "ext4", path, ["ro", "noload"]))
    mounts = request["OCI"]["Mounts"]
    mounts[:] = [mount for mount in mounts if mount["destination"] != "/model"]
    mounts.append(bound("/model", path, "rbind rprivate ro"))


def node_with_disk():
    request = node()
    disk(request)
    return request


def copy_of(path, kind=stat.S_IFREG, target=None):
    types = {stat.S_IFREG: "Regular", stat.S_IFDIR: "Directory", stat.S_IFLNK: "Symlink"}
    return {
        "path": path if path.startswith("/") else f"{SHARED}/{ID}-0123456789abcdef-{path}", "file_mode": kind | 0o644,
        "file_type": types.get(kind, "Unknown"), "symlink_target": target, "file_size": 1, "dir_mode": 0o755, "uid": 0, "gid": 0,
        "offset": 0,
    }
