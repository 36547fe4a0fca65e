//! `run`: start everything, show each link of the chain, then be the pod.

mod chain;
mod pod;

pub use pod::call_as_pod;

use std::process::ExitCode;

use pod_identity_core::arn::RoleArn;
use pod_identity_core::identity::ClusterName;
use pod_identity_runtime::shutdown::Shutdown;
use serde_json::{Value, json};

use self::chain::Chain;
use self::pod::PodEnvironment;
use crate::args::RunArgs;
use crate::breakage::Breakage;
use crate::laptop::{AuthPrincipal, Laptop, Setup, Workload};
use crate::report::{Failure, Report};
use crate::sample::SAMPLE;
use crate::world::World;

/// Runs, and gives the status to exit with: that of the command, where there is one.
pub async fn run(args: RunArgs) -> ExitCode {
    let mut report = Report::new(args.output, !args.program.is_empty());
    match run_chain(&args, &mut report).await {
        Ok(code) => code,
        Err(failure) => {
            report.end(Some(&failure), &[]);
            ExitCode::FAILURE
        }
    }
}

async fn run_chain(args: &RunArgs, report: &mut Report) -> Result<ExitCode, Failure> {
    // A command's signals are the command's: `PodEnvironment::be` sees to them.
    let shutdown = match args.program.is_empty() {
        true => Shutdown::on_signal().map_err(|error| start_failure(&error))?,
        false => Shutdown::never(),
    };
    let (world, workload) = prepare(args)?;
    if let Some(breakage) = args.breakage {
        report.say(&format!("broken on purpose: {}", breakage.description()));
    }
    report.say(match principal(args) {
        AuthPrincipal::EksService => {
            "the auth service acts as EKS's service principal, pods.eks.amazonaws.com, so that trust policies \
             written for EKS can be tried (--self-managed: as an IAM role, as on a cluster of your own)\n"
        }
        AuthPrincipal::IamRole => {
            "the auth service acts as an IAM role, as it has to on a cluster that is not EKS\n"
        }
    });
    let setup = Setup {
        principal: principal(args),
        expire_after: args.expire_after,
        cluster: args.cluster.clone(),
        ..Setup::default()
    };
    let laptop = Laptop::start(world, setup).await.map_err(|error| start_failure(&error))?;
    let pod = PodEnvironment::new(&laptop).map_err(|error| start_failure(&error))?;

    Chain { laptop: &laptop, workload: &workload, breakage: args.breakage, pod: &pod }.walk(report).await?;
    let code = tokio::select! {
        result = pod.be(args, &laptop, report, shutdown) => result,
        never = pod.rotate_token(&laptop, &workload) => match never {},
    };
    laptop.stop().await;
    code
}

fn principal(args: &RunArgs) -> AuthPrincipal {
    if args.self_managed { AuthPrincipal::IamRole } else { AuthPrincipal::EksService }
}

fn start_failure(error: &dyn std::error::Error) -> Failure {
    Failure::local(
        "start",
        "start_failed",
        error.to_string(),
        "Mend what the cause names; `pod-identity-local sample` prints a file that works.",
    )
}

/// Reads the file, breaks it where asked, and finds out who the pod is.
fn prepare(args: &RunArgs) -> Result<(World, Workload), Failure> {
    let (name, text) = match &args.file {
        None => ("the built-in file".to_owned(), SAMPLE.to_owned()),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| file_failure(&path.display().to_string(), &error))?;
            (path.display().to_string(), text)
        }
    };
    // The text as it is first: what is wrong with it should be told with the user's own lines.
    let world = World::from_yaml(&text).map_err(|error| file_failure(&name, &error))?;
    let associations = &world.associations;
    let cluster: Option<&ClusterName> =
        args.cluster.as_ref().or_else(|| associations.clusters.first().map(|cluster| &cluster.name));
    let of_cluster = || associations.associations.iter().filter(|entry| Some(&entry.cluster_name) == cluster);
    let first = of_cluster().next();
    let namespace = args.namespace.clone().or_else(|| Some(first?.namespace.clone()));
    let service_account = args.service_account.clone().or_else(|| Some(first?.service_account.clone()));
    let (Some(namespace), Some(service_account)) = (namespace, service_account) else {
        return Err(Failure::local(
            "start",
            "pod_unknown",
            "the file has no association, so it is not clear whose pod should run",
            "Add one, or give --namespace and --service-account.",
        ));
    };
    let role = of_cluster()
        .find(|entry| entry.namespace == namespace && entry.service_account == service_account)
        .map(|entry| entry.role_arn.clone());
    let workload = Workload::new(namespace, service_account, args.pod.clone());
    let workload = workload.map_err(|error| start_failure(&error))?;
    let world = match (args.breakage, role) {
        (Some(breakage), Some(role)) => broken(&text, breakage, &role, principal(args), &world)
            .map_err(|error| file_failure(&name, error.as_ref()))?,
        _ => world,
    };
    Ok((world, workload))
}

fn broken(
    text: &str,
    breakage: Breakage,
    role: &RoleArn,
    principal: AuthPrincipal,
    world: &World,
) -> Result<World, Box<dyn std::error::Error>> {
    let mut file: Value = serde_saphyr::from_str(text)?;
    let principal = match principal {
        AuthPrincipal::EksService => json!({"Service": "pods.eks.amazonaws.com"}),
        AuthPrincipal::IamRole => {
            let arns = world.callers().filter_map(|known| known.caller.principal_arn());
            json!({"AWS": arns.collect::<Vec<_>>()})
        }
    };
    breakage.apply_to_file(&mut file, role, &principal);
    Ok(World::from_yaml(&file.to_string())?)
}

fn file_failure(name: &str, error: &dyn std::error::Error) -> Failure {
    Failure::local(
        "start",
        "file_invalid",
        format!("{name}: {error}"),
        "docs/local.md describes the file; `pod-identity-local sample` prints one that works.",
    )
}
