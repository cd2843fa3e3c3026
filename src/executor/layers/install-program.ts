/**
 * Runs in the sandbox of a build: installs `event.requirements` into `layer` in its workspace with uv where there is one,
 * else pip, and returns `{"packages": [{name, version}]}` of what is there then, or `{"failure": TEXT}`.
 */
export const INSTALL_PROGRAM = `
import importlib.metadata, os, subprocess, sys

HERE = os.getcwd()
TARGET = HERE + "/layer"
TEMPORARY = HERE + "/tmp"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
TAIL_BYTES = 4000

def environment():
    certificates = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") if os.path.exists(BUNDLE) else ()
    return {**os.environ, "TMPDIR": TEMPORARY, "HOME": TEMPORARY, **dict.fromkeys(certificates, BUNDLE)}

def command(event):
    uv = next((path for path in ("/usr/local/bin/uv", "/usr/bin/uv") if os.access(path, os.X_OK)), None)
    host = event["insecure_host"]
    if uv:
        trust = ["--allow-insecure-host", host] if host else []
        own = [uv, "pip", "install", "--python", sys.executable, "--no-cache", "--compile-bytecode", "--no-progress"]
    else:
        trust = ["--trusted-host", host] if host else []
        own = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--no-input", "--disable-pip-version-check",
               "--progress-bar", "off", "--no-warn-script-location", "--retries", "2"]
    return [*own, *trust, "--target", TARGET, "--", *event["requirements"]]

def handler(event):
    os.makedirs(TEMPORARY)
    os.makedirs(TARGET)
    with open(HERE + "/log", "w+b") as log:
        run = subprocess.run(command(event), env=environment(), stdin=subprocess.DEVNULL, stdout=log,
                             stderr=subprocess.STDOUT)
        end = log.seek(0, 2)
        log.seek(max(0, end - TAIL_BYTES))
        tail = log.read().decode("utf-8", "replace").strip()
    if run.returncode == -9:
        return {"failure": f"{tail}\\nthe installer was killed, most likely because it needs more memory than there is".strip()}
    if run.returncode != 0:
        return {"failure": tail or f"the installer ended with {run.returncode}"}
    found = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions(path=[TARGET])}
    return {"packages": [{"name": name, "version": found[name]} for name in sorted(found, key=str.lower)]}
`;

/** Variables of the installers: the index (which may hold a password); no configuration of the image's. */
export function installEnvironment(indexUrl: string): Record<string, string> {
  return {
    PIP_INDEX_URL: indexUrl,
    UV_DEFAULT_INDEX: indexUrl,
    PIP_CONFIG_FILE: "/dev/null",
    UV_NO_CONFIG: "1",
    UV_PYTHON_DOWNLOADS: "never",
    NO_PROXY: "",
    no_proxy: "",
  };
}
