import { python, type HostileProgram } from "./program.ts";

const GROUP = "network";

/** Attempts to reach anything outside the sandbox. */
export const NETWORK: readonly HostileProgram[] = [
  python(
    GROUP,
    "tcp-to-the-internet",
    "no route out over IPv4",
    `
s = socket.socket(); s.settimeout(2)
try: s.connect(("1.1.1.1", 443)); escaped("connected")
except OSError as e: tried(e)`,
  ),
  python(
    GROUP,
    "tcp6-to-the-internet",
    "no route out over IPv6",
    `
try:
    s = socket.socket(socket.AF_INET6); s.settimeout(2); s.connect(("2606:4700:4700::1111", 443)); escaped("connected")
except OSError as e: tried(e)`,
  ),
  python(
    GROUP,
    "tcp-to-host-loopback",
    "the host's loopback is another one",
    `
for host in ("127.0.0.1", "::1", "0.0.0.0", "localhost"):
    try:
        socket.create_connection((host, {{HOST_PORT}}), 1); escaped("reached the host at", host)
    except OSError: pass
tried()`,
  ),
  python(
    GROUP,
    "metadata-service",
    "the cloud's metadata service is out of reach",
    `
for host in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200"):
    try: socket.create_connection((host, 80), 1); escaped("reached", host)
    except OSError: pass
tried()`,
  ),
  python(
    GROUP,
    "udp",
    "no datagram leaves",
    `
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try: s.sendto(b"x", ("8.8.8.8", 53)); escaped("sent")
except OSError as e: tried(e)`,
  ),
  python(
    GROUP,
    "dns",
    "no name is resolved",
    `
try: escaped(socket.getaddrinfo("example.com", 80))
except OSError as e: tried(e)`,
  ),
  python(
    GROUP,
    "raw-socket",
    "no raw sockets",
    `
for family, kind, proto in ((socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_INET, socket.SOCK_RAW, 255), (socket.AF_INET6, socket.SOCK_RAW, 58)):
    try: socket.socket(family, kind, proto); escaped("raw socket", family)
    except OSError: pass
tried()`,
  ),
  python(
    GROUP,
    "packet-socket",
    "no packet sockets",
    `
try: socket.socket(17, socket.SOCK_RAW, 0x300); escaped("packet socket")
except OSError as e: tried(e)`,
  ),
  python(
    GROUP,
    "unusual-families",
    "no socket of an unusual family",
    `
got = []
for family in (9, 15, 21, 29, 30, 31, 37, 38, 39, 40, 44):
    for kind in (1, 2, 3, 5):
        try: socket.socket(family, kind, 0).close(); got.append((family, kind))
        except OSError: pass
tried()
if got: escaped(got)`,
  ),
  python(
    GROUP,
    "abstract-unix-socket",
    "the host's abstract sockets are out of reach",
    `
s = socket.socket(socket.AF_UNIX)
try: s.connect("\\0{{ABSTRACT_SOCKET}}"); escaped("connected")
except OSError as e: tried(e)`,
  ),
  python(
    GROUP,
    "executor-socket",
    "the executor can't be spoken to",
    `
for path in ("{{DATA_DIR}}/executor/socket", "/executor/socket", "/run/sandbox/socket", "/.sandbox/socket"):
    s = socket.socket(socket.AF_UNIX)
    try: s.connect(path); escaped("connected to", path)
    except OSError: pass
tried()`,
  ),
  python(
    GROUP,
    "other-interfaces",
    "there is no interface but loopback",
    `
names = [name for _, name in socket.if_nameindex()] if hasattr(socket, "if_nameindex") else []
listed = [l.split(":")[0].strip() for l in open("/proc/net/dev") if ":" in l]
tried(listed)
if [n for n in listed if n not in ("lo",) and not n.startswith(("tunl", "sit", "ip6tnl", "gre", "erspan", "ip_vti", "ip6_vti", "ip6gre", "gretap"))]: escaped(listed)`,
  ),
  python(
    GROUP,
    "set-up-interface",
    "the network can't be configured",
    `
import fcntl, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try: fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0)); escaped("took lo down")
except OSError as e: tried(e)`,
  ),
];
