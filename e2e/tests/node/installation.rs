//! The installation that all tests share: images of the programs, a stand-in for AWS, and `deploy/self-managed`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testing::node::{ADDRESS, ISSUER, Node};
use testing::program::Program;

/// Keys of the auth service's IAM user.
pub(crate) const AUTH_KEYS: [&str; 2] = ["AKIAE2EAUTHSERVICE00", "secret-of-the-auth-service"];
pub(crate) const NAMESPACE: &str = "pod-identity";
const STS_PORT: u16 = 4566;

/// A node with the installation.
pub(crate) struct Installation {
    pub(crate) node: &'static Node,
    /// The directory of images and edited manifests.
    pub(crate) directory: TempDir,
    _aws: Program,
}

/// Returns the shared installation, or `None` if a node is unavailable.
pub(crate) fn installation() -> Option<&'static Installation> {
    static SHARED: OnceLock<Option<Installation>> = OnceLock::new();
    SHARED.get_or_init(|| Node::shared().map(Installation::new)).as_ref()
}

/// Returns the URL of the stand-in for STS.
pub(crate) fn sts() -> String {
    format!("http://{ADDRESS}:{STS_PORT}")
}

/// Returns the root of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns the directory with the programs of the workspace, after building them. The environment variable
/// `PROGRAMS_DIRECTORY` names a directory with other builds.
pub(crate) fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        if let Some(directory) = std::env::var_os("PROGRAMS_DIRECTORY") {
            return directory.into();
        }
        // The flags of the test command, so that nothing is built twice.
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--workspace", "--locked", "--no-run", "--quiet"]).current_dir(workspace());
        assert!(cargo.status().unwrap().success(), "the programs cannot be built");
        Path::new(env!("CARGO_BIN_EXE_aws-credentials")).parent().unwrap().to_owned()
    })
}

impl Installation {
    fn new(node: &'static Node) -> Self {
        let directory = TempDir::with_prefix("installation-").unwrap();
        for (program, image) in [
            ("agent", "pod-identity-agent"),
            ("auth", "pod-identity-auth"),
            ("webhook", "pod-identity-webhook"),
        ] {
            node.import_image(&image_of(program, image, directory.path()));
        }
        let aws = stand_in_for_aws(node, directory.path());
        let installation = Self { node, directory, _aws: aws };
        installation.apply_manifests();
        installation
    }

    /// Installs as `docs/how-to/install-on-a-cluster-of-your-own.md` says.
    fn apply_manifests(&self) {
        let deploy = self.directory.path().join("deploy");
        copy(&workspace().join("deploy"), &deploy);
        let settings = deploy.join("self-managed/settings.env");
        let text = fs::read_to_string(&settings).unwrap();
        assert!(text.contains(&format!("ISSUER={ISSUER}")), "{text}");
        fs::copy(
            workspace().join("e2e/tests/node/associations.yaml"),
            deploy.join("self-managed/associations.yaml"),
        )
        .unwrap();
        let node = self.node;
        self.apply("namespace");
        let [key, secret] = AUTH_KEYS;
        node.kubectl(&[
            "-n",
            NAMESPACE,
            "create",
            "secret",
            "generic",
            "pod-identity-auth-aws",
            &format!("--from-literal=AWS_ACCESS_KEY_ID={key}"),
            &format!("--from-literal=AWS_SECRET_ACCESS_KEY={secret}"),
            &format!("--from-literal=AWS_ENDPOINT_URL_STS={}", sts()),
        ]);
        self.apply("self-managed");
        for object in [
            "deployment/pod-identity-auth",
            "deployment/pod-identity-webhook",
            "daemonset/pod-identity-agent",
        ] {
            self.wait_for_rollout(object);
        }
    }

    /// Applies a kustomization of `deploy`.
    pub(crate) fn apply(&self, kustomization: &str) {
        let directory = self.directory.path().join("deploy").join(kustomization);
        self.node.kubectl(&["apply", "-k", directory.to_str().unwrap()]);
    }

    /// Waits until all pods of an object are ready.
    pub(crate) fn wait_for_rollout(&self, object: &str) {
        let arguments = ["-n", NAMESPACE, "rollout", "status", object, "--timeout=180s"];
        if let Err(error) = self.node.try_kubectl(&arguments, "") {
            panic!("{object}: {error}\n{}", self.node.diagnosis(NAMESPACE));
        }
    }
}

/// Makes the image of a program, as `docs/how-to/build-images.md` says. Returns its archive.
fn image_of(program: &str, image: &str, directory: &Path) -> PathBuf {
    let name = if program == "agent" { "eks-pod-identity-agent" } else { image };
    let (stripped, archive) = (directory.join(name), directory.join(format!("{program}.tar")));
    let mut strip = Command::new("strip");
    assert!(strip.arg("-o").arg(&stripped).arg(programs().join(name)).status().unwrap().success());
    let mut maker = Command::new(programs().join("images"));
    maker.arg(program).arg("--binary").arg(&stripped).arg("--name").arg(format!("{image}:0.1.0"));
    let output = maker.arg("--output").arg(&archive).current_dir(workspace()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    archive
}

/// Starts the stand-in for AWS in the node's network.
fn stand_in_for_aws(node: &Node, directory: &Path) -> Program {
    let file = workspace().join("e2e/tests/node/aws.yaml");
    let token = directory.join("jwks-token");
    fs::write(
        &token,
        node.kubectl(&["-n", "default", "create", "token", "default", "--duration=24h"]).trim(),
    )
    .unwrap();
    let mut aws = node.command(programs().join("pod-identity-local").to_str().unwrap());
    aws.arg("aws").arg(format!("--listen={ADDRESS}:{STS_PORT}")).arg("--file").arg(file);
    aws.arg(format!("--issuer={ISSUER}")).arg("--jwks-url=https://10.96.0.1/openid/v1/jwks");
    aws.arg("--jwks-ca-file").arg(node.ca_file()).arg("--jwks-token-file").arg(token);
    let mut program = Program::start(&mut aws).unwrap();
    eventually("the stand-in for AWS listens", Duration::from_secs(20), || {
        assert!(program.is_running(), "the stand-in for AWS has ended");
        let script = format!("exec 3<>/dev/tcp/{ADDRESS}/{STS_PORT}");
        let mut bash = node.network_command(OsStr::new("bash"));
        bash.args(["-c", &script]).output().unwrap().status.success()
    });
    program
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args(["-r"]).args([from, to]).status().unwrap().success());
}

/// Waits until `condition` holds. Returns how long that took.
#[allow(clippy::disallowed_methods)]
pub(crate) fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "{what}: not after {limit:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    start.elapsed()
}
