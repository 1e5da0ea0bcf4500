"""The policy of the agent in a confidential pod, in the engine that the agent has (regorus): what Kata's runtime sends for
deploy/kubernetes/node.yaml is let through, and what a hostile host might send instead is not."""

import copy
import json
import stat

import pytest
from agent_requests import (
    GPU, ID, IMAGE, INITDATA, NODE, OTHER, POD, POLICY, ROOT, SHARED,
    allowed, bound, copied, copy_of, disk, node, node_with_disk, pull, sandbox, storage,
)


def put(path, value):
    """A change: this value at this place, such as OCI.Root.Readonly; a list's last place is -1, one behind it +."""

    def change(request):
        *parents, last = path.split(".")
        for name in parents:
            request = request[int(name) if isinstance(request, list) else name]
        if last == "+":
            request.append(value)
        else:
            request[int(last) if isinstance(request, list) else last] = value

    return change


def at(destination, key, value):
    def change(request):
        (mount,) = [mount for mount in request["OCI"]["Mounts"] if mount["destination"] == destination]
        mount[key] = value

    return change


def annotation(key, value):
    return lambda request: request["OCI"]["Annotations"].update({key: value})


def without(path):
    def change(request):
        *parents, last = path.split(".")
        for name in parents:
            request = request[name]
        del request[last]

    return change


def renamed(request):
    """Of the whole request, so that nothing else tells."""
    other = json.loads(json.dumps(request).replace(ID, "shared"))
    request.clear()
    request.update(other)


def guests_disk(request):
    request["storages"].pop()
    disk(request, "/dev/dm-0")


def copied_root(request):
    request["OCI"]["Root"]["Path"] = request["storages"][0]["mount_point"] = f"{SHARED}/{ID}-0123456789abcdef-config"


HOOK = {"Prestart": [{"Path": "/bin/sh", "Args": [], "Env": [], "Timeout": 0}]}
EVIL_DISK = storage("blk", "03/00", "ext4", "/run/kata-containers/sandbox/storage/MDMvMDA=", ["ro"])
# Of both containers. A name begins each.
ATTACKS = {
    "other arguments": put("OCI.Process.Args", ["/bin/sh", "-c", "true"]),
    "an argument more": put("OCI.Process.Args.+", "--allow-plaintext"),
    "LD_PRELOAD": put("OCI.Process.Env.+", "LD_PRELOAD=/config/evil.so"),
    "PATH": put("OCI.Process.Env.+", "PATH=/config"),
    "a cluster's name for a variable": put("OCI.Process.Env.+", "KUBERNETES_PORT=tcp://x\nLD_PRELOAD=/config/evil.so"),
    "a terminal": put("OCI.Process.Terminal", True),
    "new privileges": put("OCI.Process.NoNewPrivileges", False),
    "a capability": put("OCI.Process.Capabilities.Ambient", ["CAP_SYS_ADMIN"]),
    "capabilities unsaid, so that all are kept": put("OCI.Process.Capabilities", None),
    "a label": put("OCI.Process.SelinuxLabel", "unconfined_u"),
    "a limit": put("OCI.Process.Rlimits", [{"Type": "RLIMIT_CORE", "Hard": 1, "Soft": 1}]),
    "a root that is written to": put("OCI.Root.Readonly", False),
    "another's root": put("OCI.Root.Path", f"/run/kata-containers/{OTHER}/rootfs"),
    "a root that the host copied": copied_root,
    "an id that is a directory of the host's": renamed,
    "hooks": put("OCI.Hooks", HOOK),
    "a type that is none": annotation("io.kubernetes.cri.container-type", "other"),
    "no type": without("OCI.Annotations"),
    "the other orchestrator's type": annotation("io.kubernetes.cri-o.ContainerType", "sandbox"),
    "a file to hand out": annotation("io.kubernetes.container.terminationMessagePath", "/proc/1/mem"),
    "a device by annotation": annotation("cdi.k8s.io/any", "vendor.com/device=all"),
    "no name space of mounts": put("OCI.Linux.Namespaces", [{"Type": "ipc", "Path": ""}, {"Type": "uts", "Path": ""}]),
    "somebody's name space": put("OCI.Linux.Namespaces.2.Path", "/proc/1/ns/mnt"),
    "the sandbox's processes": put("sandbox_pidns", True),
    "memory of the kernel's not hidden": lambda request: request["OCI"]["Linux"]["MaskedPaths"].remove("/proc/kcore"),
    "the firmware not hidden": lambda request: request["OCI"]["Linux"]["MaskedPaths"].remove("/sys/firmware"),
    "nothing hidden": put("OCI.Linux.MaskedPaths", []),
    "the program hidden": put("OCI.Linux.MaskedPaths.+", "/usr/bin/obscura"),
    "hidden by a way up": put("OCI.Linux.MaskedPaths.+", "/proc/../usr"),
    "kernel's settings written to": put("OCI.Linux.ReadonlyPaths", []),
    "a device node": put("OCI.Linux.Devices", [{"Path": "/dev/mem", "Type": "c", "Major": 1, "Minor": 1}]),
    "another profile": put("OCI.Process.ApparmorProfile", "unconfined"),
    "other systems' parts": put("OCI.Windows", {"dummy": ""}),
    "an old system's parts": put("OCI.Solaris", {"dummy": ""}),
    "limits of disks": put("OCI.Linux.Resources.BlockIO", {"Weight": 1}),
    "limits of networks": put("OCI.Linux.Resources.Network", {"ClassID": 1}),
    "limits of processes": put("OCI.Linux.Resources.Pids", {"Limit": 1}),
    "a cache's schema": put("OCI.Linux.IntelRdt", {"L3CacheSchema": ""}),
    "users mapped": put("OCI.Linux.UIDMappings", [{"HostID": 0, "ContainerID": 65532, "Size": 1}]),
    "groups mapped": put("OCI.Linux.GIDMappings", [{"HostID": 0, "ContainerID": 65532, "Size": 1}]),
    "a label of mounts": put("OCI.Linux.MountLabel", "x"),
    "a device's cgroup": put("OCI.Linux.Resources.Devices", [{"Allow": True, "Access": "rwm"}]),
    "huge pages": put("OCI.Linux.Resources.HugepageLimits", [{"Pagesize": "2MB", "Limit": 1}]),
    "a filter that lies": put("OCI.Linux.Seccomp", {"DefaultAction": "SCMP_ACT_ALLOW"}),
    "a sysctl": put("OCI.Linux.Sysctl", {"kernel.core_pattern": "|/config/evil"}),
    "mounts that propagate": put("OCI.Linux.RootfsPropagation", "shared"),
    "a cgroup by a way up": put("OCI.Linux.CgroupsPath", "/../../x"),
    "a device": put("devices.+", {"id": "b", "type_": "blk", "vm_path": "/dev/vda", "container_path": "/dev/b", "options": []}),
    "a shared mount": put("shared_mounts", [{"name": "x", "src_ctr": OTHER, "src_path": "/", "dst_ctr": ID, "dst_path": "/model"}]),
    "a user by name": put("string_user", {"uid": "root", "gid": "root", "additionalGids": []}),
    "a stream": put("stdout_port", 1024),
    "a mount over the program": put("OCI.Mounts.+", copied("/usr/bin/obscura", "rbind rprivate ro")),
    "the guest's root": put("OCI.Mounts.+", bound("/host", "/", "rbind")),
    "two mounts in one place": put("OCI.Mounts.+", copied("/etc/resolv.conf", "rbind rprivate ro")),
    "another's file": at("/etc/resolv.conf", "source", f"{SHARED}/{OTHER}-0123456789abcdef-resolv.conf"),
    "a file by a way up": at("/etc/resolv.conf", "source", f"{SHARED}/{ID}-0123456789abcdef-x/../resolv.conf"),
    "a file by a way up in the random part": at("/etc/resolv.conf", "source", f"{SHARED}/{ID}-/../../../../usr-resolv.conf"),
    "an overlay": at("/etc/resolv.conf", "type_", "overlay"),
    "a device file for shared memory": at("/dev/shm", "source", "/dev"),
    "writable sysfs": at("/sys", "options", ["nosuid", "noexec", "nodev", "rw"]),
    "another kind of sysfs": at("/sys", "type_", "bind"),
    "sysfs from elsewhere": at("/sys", "source", "/run"),
    "a file that is executed": at("/etc/resolv.conf", "options", ["rbind", "exec", "suid"]),
    "a library": put("OCI.Mounts.+", copied("/lib", "rbind rprivate ro")),
    "the guest's processes": put("OCI.Mounts.0", bound("/proc", "/proc", "rbind")),
    "no image": put("storages", []),
    "another image": put("storages.0.source", "registry.example/evil@sha256:" + "1" * 64),
    "a tag": put("storages.0.source", "registry.example/obscura:latest"),
    "two images": lambda request: request["storages"].append(copy.deepcopy(request["storages"][0])),
    "an image beside": put("storages.+", {**pull("container", IMAGE), "mount_point": "/usr"}),
    "an image elsewhere": put("storages.0.mount_point", f"/run/kata-containers/{OTHER}/rootfs"),
    "an image's option": put("storages.0.options", ["io.katacontainers.fs-opt.multi-layer"]),
    "another driver": put("storages.0.driver", "overlayfs"),
    "two descriptions of the image": put("storages.0.driver_options.+", "image_guest_pull={}"),
    "a disk": put("storages.+", EVIL_DISK),
    "layers": put("storages.+", storage("erofs.multi-layer", "x", "erofs", f"/run/kata-containers/{ID}/rootfs", [])),
    "the host's files": put("storages.+", storage("virtio-fs", "kataShared", "virtiofs", SHARED, [])),
}
OF_SANDBOX = {
    "an image for the sandbox": put("storages.0.source", IMAGE),
    "a sandbox that is pulled": put("storages.0.driver_options", pull("container", "pause")["driver_options"]),
    "a sandbox said twice": put(
        "storages.0.driver_options",
        ['image_guest_pull={"metadata":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.container-type":"x"}}'],
    ),
    "a capability that is not usual": put("OCI.Process.Capabilities.Bounding", ["CAP_SYS_ADMIN"]),
    "the node's volume": put("OCI.Mounts.+", copied("/config", "rbind rprivate ro")),
    "the node's arguments": put("OCI.Process.Args", ["/usr/bin/obscura", *NODE["args"]]),
}
OF_NODE = {
    "the pause program": put("OCI.Process.Args", ["/pause"]),
    "a usual capability": put("OCI.Process.Capabilities.Bounding", ["CAP_CHOWN"]),
    "root": put("OCI.Process.User.UID", 0),
    "root's group": put("OCI.Process.User.GID", 0),
    "a group more": put("OCI.Process.User.AdditionalGids", [0]),
    "a user's name": put("OCI.Process.User.Username", "root"),
    "another directory": put("OCI.Process.Cwd", "/config"),
    "OBSCURA_LOG": put("OCI.Process.Env.+", "OBSCURA_LOG=trace"),
    "a name that lies": annotation("io.kubernetes.cri.container-type", "sandbox"),
    "configuration that is written to": at("/config", "options", ["rbind", "rprivate", "rw"]),
    "configuration from the image's place": at("/config", "source", f"/run/kata-containers/{OTHER}/rootfs"),
    "configuration by another name": at("/config", "source", f"{SHARED}/{ID}-0123456789abcdef-model"),
    "events on a disk": at("/run/obscura", "source", EVIL_DISK["mount_point"]),
    "events in the host's files": at("/run/obscura", "source", f"{SHARED}/{ID}-0123456789abcdef-model"),
    "events that are executed": at("/run/obscura", "options", ["rbind", "rprivate", "exec"]),
    "a GPU by another name": annotation("cdi.k8s.io/any", "nvidia.com/gpu=0"),
    "a device by a way up": put("devices.0", {**GPU, "id": "../../mem", "container_path": "/dev/vfio/devices/../../mem"}),
    "a device of the guest's": put("devices.0.vm_path", "/dev/mem"),
    "a device on another bus": put("devices.0.options", ["/dev/mem"]),
    "memory twice": lambda request: request["storages"].append(copy.deepcopy(request["storages"][1])),
    "GPUs of all kinds": annotation("cdi.k8s.io/vfio1", "nvidia.com/gpu=all"),
    "a second GPU": lambda request: request["devices"].append(copy.deepcopy(request["devices"][0])),
    "a device that is no GPU": put("devices.0.type_", "blk"),
    "a device in another place": put("devices.0.container_path", "/dev/mem"),
    "memory with an option": put("storages.1.options", ["fsgid=0"]),
    "memory from a disk": put("storages.1.source", "/dev/vda"),
    "memory elsewhere": put("storages.1.mount_point", "/usr"),
    "a key for a disk": put("storages.1.driver_options", ["encryption_key=ephemeral"]),
}
OF_DISK = {
    "a second disk": put("storages.+", EVIL_DISK),
    "a disk that is written to": put("storages.2.options", []),
    "a disk that is formatted": put("storages.2.driver_options", ["create_filesystem"]),
    "a disk elsewhere": put("storages.2.mount_point", "/run/kata-containers/sandbox/storage/x"),
    "a disk that is a mount of another type": at("/model", "type_", "overlay"),
    "a disk that is mounted to be written to": at("/model", "options", ["rbind", "rw"]),
    "a disk without its place": at("/model", "source", "/usr"),
    "a disk by another's place": put("storages.2.source", "03/00"),
    "a disk that the guest has": guests_disk,
    "an option of a disk": put("storages.2.options", ["ro", "suid"]),
    "another file system": put("storages.2.fstype", "overlay"),
    "a disk for the configuration": at("/config", "source", "/run/kata-containers/sandbox/storage/MDIvMDA="),
    "a disk that belongs to somebody": put("storages.2.fs_group", {"group_id": 0}),
}


def test_a_pod_that_is_launched_as_written_starts():
    assert (INITDATA["version"], INITDATA["algorithm"]) == ("0.1.0", "sha384")
    assert allowed("CreateContainerRequest", sandbox())
    assert allowed("CreateContainerRequest", node())
    with_disk = node()
    disk(with_disk)
    assert allowed("CreateContainerRequest", with_disk)
    # A GPU that is there from the start is named by the annotation alone.
    assert allowed("CreateContainerRequest", {**node(), "devices": []})


def cases(made, *attacks):
    return [pytest.param(made, change, id=f"{made.__name__}: {name}") for each in attacks for name, change in each.items()]


@pytest.mark.parametrize(
    ("made", "change"), cases(sandbox, ATTACKS, OF_SANDBOX) + cases(node, ATTACKS, OF_NODE) + cases(node_with_disk, OF_DISK)
)
def test_a_hostile_host_runs_nothing_else(made, change):
    # `dict.fromkeys` above shares its lists.
    request = json.loads(json.dumps(made()))
    assert allowed("CreateContainerRequest", request)
    change(request)
    assert not allowed("CreateContainerRequest", request)


@pytest.mark.parametrize("made", [sandbox, node])
def test_what_is_unsaid_is_refused(made):
    """But for what the agent does not act on, and for what other versions of it do not say."""
    unread = {
        "exec_id", "ConsoleSize", "Hostname", "Version", "OOMScoreAdj", "Memory", "CPU",
        "shared", "stdin_port", "stdout_port", "stderr_port",
    }
    if made is sandbox:  # The guest's own program has its user and its directory.
        unread |= {"User", "Cwd"}

    def fields(value, path=()):
        for name, inner in value.items():
            yield (*path, name)
            if isinstance(inner, dict) and name not in {"Annotations", "User", "Sysctl", "Capabilities", *unread}:
                yield from fields(inner, (*path, name))

    for path in fields(made()):
        if path[-1] not in unread:
            request = made()
            without(".".join(path))(request)
            assert not allowed("CreateContainerRequest", request), path


MOMENT = "..2026_11_27_15_20_31.1234567890"


@pytest.mark.parametrize(
    "request_",
    [
        copy_of("resolv.conf"),
        copy_of("termination-log"),
        copy_of("config", stat.S_IFDIR),
        copy_of(f"config/{MOMENT}", stat.S_IFDIR),
        copy_of(f"config/{MOMENT}/obscura.toml"),
        copy_of("config/..data", stat.S_IFLNK, MOMENT),
        copy_of("config/obscura.toml", stat.S_IFLNK, "..data/obscura.toml"),
        copy_of("collateral/collateral.json", stat.S_IFLNK, "..data/collateral.json"),
        copy_of("model/transformer", stat.S_IFDIR),
        copy_of("model/transformer/diffusion_pytorch_model-00001-of-00003.safetensors"),
    ],
    ids=lambda request: request["path"].rsplit("-", 1)[1],
)
def test_what_a_config_map_holds_is_copied(request_):
    assert allowed("CopyFileRequest", request_)


@pytest.mark.parametrize(
    "request_",
    [
        copy_of("/etc/ld.so.preload"),
        copy_of(f"/run/kata-containers/{ID}/rootfs/usr/bin/obscura"),
        copy_of(f"{SHARED}/{ID}/rootfs/usr/bin/obscura"),
        copy_of("config/../../../../usr/bin/obscura"),
        copy_of("config/.."),
        copy_of("config/./obscura.toml"),
        copy_of("config//obscura.toml"),
        copy_of("config/obscura.toml\n"),
        copy_of("configuration"),
        copy_of("evil"),
        copy_of("config"),
        copy_of("resolv.conf", stat.S_IFDIR),
        copy_of("resolv.conf", stat.S_IFLNK, "/etc/shadow"),
        copy_of("config", stat.S_IFLNK, "/"),
        copy_of("config", stat.S_IFLNK, "..data"),
        copy_of("config/obscura.toml", stat.S_IFLNK, "/etc/shadow"),
        copy_of("config/obscura.toml", stat.S_IFLNK, "..data/../../x"),
        copy_of("config/obscura.toml", stat.S_IFLNK, "..data/other"),
        copy_of("config/..data", stat.S_IFLNK, "../x"),
        copy_of("config/..data", stat.S_IFLNK, ".."),
        copy_of("config/..data", stat.S_IFLNK),
        copy_of("config/obscura.toml", stat.S_IFIFO),
        copy_of("config/obscura.toml", stat.S_IFBLK),
        copy_of("config/obscura.toml", stat.S_IFSOCK),
        copy_of("config/obscura.toml", 0),
    ],
    ids=lambda request: repr(request["path"][-30:]),
)
def test_nothing_else_is(request_):
    assert not allowed("CopyFileRequest", request_)


def test_a_guest_starts_without_hooks_modules_and_the_hosts_files():
    options = ["noexec", "nosuid", "nodev", "mode=1777", "size=67108864"]
    shm = storage("ephemeral", "shm", "tmpfs", "/run/kata-containers/sandbox/shm", options)
    honest = {
        "hostname": "node", "dns": [], "storages": [shm], "sandbox_pidns": False, "sandbox_id": OTHER, "guest_hook_path": "",
        "kernel_modules": [],
    }
    assert allowed("CreateSandboxRequest", honest)
    files = storage("virtio-fs", "kataShared", "virtiofs", SHARED, [])
    for change in (
        {"guest_hook_path": "/run/kata-containers/shared/containers"},
        {"kernel_modules": [{"name": "evil", "parameters": []}]},
        {"sandbox_pidns": True},
        {"storages": [shm, files]},
        {"storages": [{**shm, "mount_point": "/usr"}]},
        {"storages": [{**shm, "options": ["exec"]}]},
    ):
        assert not allowed("CreateSandboxRequest", {**honest, **change}), change


def test_the_loopback_is_not_the_hosts():
    interface = {"name": "eth0", "hwAddr": "66:74:9f:6a:96:01", "raw_flags": 128, "IPAddresses": []}
    assert allowed("UpdateInterfaceRequest", {"interface": interface})
    # Each of these is six zero bytes to the agent, which reads `+0` and `000` too.
    zeros = ["00:00:00:00:00:00", "0:0:0:0:0:0", "+0:00:00:00:00:00", "000:00:00:00:00:00"]
    others = ["", "66:74:9F:6A:96:01", "66:74:9f:6a:96", "66:74:9f:6a:96:01:00", "66:74:9f:6a:96:01\n"]
    addresses = [{"hwAddr": address} for address in [*zeros, *others]]
    for change in ({"name": "lo"}, {"raw_flags": 256}, *addresses):
        assert not allowed("UpdateInterfaceRequest", {"interface": {**interface, **change}}), change
    route = {"dest": "", "gateway": "10.0.0.1", "device": "eth0", "source": ""}
    assert allowed("UpdateRoutesRequest", {"routes": {"Routes": [route, {**route, "dest": "10.0.0.0/8"}]}})
    for change in ({"device": "lo"}, {"dest": "127.0.0.0/8"}, {"dest": "::1/128"}, {"source": "127.0.0.1"}):
        assert not allowed("UpdateRoutesRequest", {"routes": {"Routes": [route, {**route, **change}]}}), change


def test_a_host_reads_writes_and_runs_nothing_beside():
    for kind in (
        "ExecProcess", "ReadStream", "WriteStream", "SetPolicy", "UpdateContainer", "UpdateEphemeralMounts", "PauseContainer",
        "GetDiagnosticData", "SetIPTables", "AddSwap", "AddSwapPath", "MemHotplugByProbe", "SetGuestDateTime", "ReseedRandomDev",
        "ResizeVolume", "VolumeStats", "NotYetKnown",
    ):
        assert not allowed(f"{kind}Request", {}), kind
    assert not allowed("AllowRequestsFailingPolicy", {})


def test_the_policy_is_of_the_pod_and_the_image_that_are_deployed():
    assert f'image := "{IMAGE}"\n' in POLICY
    assert POD["securityContext"]["runAsUser"] == POD["securityContext"]["runAsGroup"] == 65532
    # It would hand the volumes to a group, which the policy refuses.
    assert "fsGroup" not in POD["securityContext"]
    assert 'ENTRYPOINT ["/usr/bin/obscura"]' in (ROOT / "Dockerfile.tdx").read_text()
    (events,) = [volume for volume in POD["volumes"] if "emptyDir" in volume]
    assert events["name"] == "events" and events["emptyDir"]["medium"] == "Memory"


def test_no_other_service_is_in_the_environment():
    """Kubernetes tells a pod of each service of its name space: the gateway's variables are not the policy's."""
    assert POD["enableServiceLinks"] is False
    gateway = node()
    gateway["OCI"]["Process"]["Env"].append("GATEWAY_SERVICE_HOST=10.96.0.7")
    assert not allowed("CreateContainerRequest", gateway)
