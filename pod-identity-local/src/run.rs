//! The command `run`: starts the services, checks each step, then acts as the pod.

mod path_check;
mod fix;
mod pod;
mod program;

pub use pod::call_as_pod;

use std::process::ExitCode;

use pod_identity_auth::store::AssociationEntry;
use pod_identity_core::arn::RoleArn;
use pod_identity_runtime::files::{ReadError, read_text};
use pod_identity_runtime::shutdown::Shutdown;
use serde_json::{Value, json};

use self::path_check::PathCheck;
use self::pod::PodEnvironment;
use crate::args::RunArgs;
use crate::breakage::Breakage;
use crate::laptop::{AuthPrincipal, Laptop, Setup, Workload, chosen_cluster};
use crate::report::{Failure, Report};
use crate::sample::SAMPLE;
use crate::world::World;

/// Maximum size of a fixture file in bytes.
const MAX_FILE: usize = 16 * 1024 * 1024;

/// Runs the command `run`. Returns the exit status, which is that of the program after `--` if there is one.
pub async fn run(args: RunArgs) -> ExitCode {
    let mut report = Report::new(args.output, !args.program.is_empty());
    match run_chain(&args, &mut report).await {
        Ok(code) => code,
        Err(failure) => {
            report.fail(&failure);
            ExitCode::from(failure.status)
        }
    }
}

async fn run_chain(args: &RunArgs, report: &mut Report) -> Result<ExitCode, Failure> {
    // With a program, `PodEnvironment` handles the signals.
    let shutdown = match args.program.is_empty() {
        true => Shutdown::on_signal().map_err(|error| start_failure(&error))?,
        false => Shutdown::never(),
    };
    let (world, workload) = prepare(args)?;
    if let Some(breakage) = args.breakage {
        report.print(&format!("injected fault: {}", breakage.description()));
    }
    report.print(match principal(args) {
        AuthPrincipal::EksService => {
            "the auth service acts as EKS's service principal, pods.eks.amazonaws.com, so that you can try trust policies \
             written for EKS (--self-managed: as an IAM role, as on a cluster of your own)\n"
        }
        AuthPrincipal::IamRole => {
            "the auth service acts as an IAM role, as on a cluster that is not EKS\n"
        }
    });
    let setup = Setup {
        principal: principal(args),
        expire_after: args.expire_after,
        cluster: args.cluster.clone(),
        ..Setup::default()
    };
    let laptop = Laptop::start(world, setup).await.map_err(|error| start_failure(&error))?;
    report.set_principal(laptop.principal());
    let pod = PodEnvironment::new(&laptop).map_err(|error| start_failure(&error))?;

    PathCheck { laptop: &laptop, workload: &workload, breakage: args.breakage, pod: &pod }.run(report).await?;
    let code = tokio::select! {
        result = pod.run(args, &laptop, report, shutdown) => result,
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
        "Correct the item in the cause; `pod-identity-local sample` prints a valid file.",
    )
}

/// Reads the fixture file, selects the pod, and injects a fault into the file if one is requested.
fn prepare(args: &RunArgs) -> Result<(World, Workload), Failure> {
    let (name, text) = match &args.file {
        None => ("the built-in file".to_owned(), SAMPLE.to_owned()),
        Some(path) => {
            let text =
                read_text(path, MAX_FILE).map_err(|error| unreadable(&path.display().to_string(), &error))?;
            (path.display().to_string(), text.to_string())
        }
    };
    // The original text is read first, so that errors refer to the lines of the user's file.
    let world = World::from_yaml(&text).map_err(|error| file_failure(&name, &error))?;
    let associations = &world.associations;
    let cluster =
        &chosen_cluster(associations, args.cluster.as_ref()).map_err(|error| start_failure(&error))?.name;
    let of_cluster = || associations.associations.iter().filter(|entry| entry.cluster_name == *cluster);
    let first = of_cluster().next();
    let namespace = args.namespace.clone().or_else(|| Some(first?.namespace.clone()));
    let service_account = args.service_account.clone().or_else(|| Some(first?.service_account.clone()));
    let (Some(namespace), Some(service_account)) = (namespace, service_account) else {
        return Err(Failure::local(
            "start",
            "pod_unknown",
            "the file has no association, and the flags do not name a service account",
            "Add an association, or give --namespace and --service-account.",
        ));
    };
    let association = of_cluster()
        .find(|entry| entry.namespace == namespace && entry.service_account == service_account)
        .cloned();
    let workload = Workload::new(namespace, service_account, args.pod.clone());
    let workload = workload.map_err(|error| start_failure(&error))?;
    if let Some(breakage) = args.breakage {
        refuse_without_effect(breakage, &workload, association.as_ref())?;
    }
    let world = match (args.breakage, association) {
        (Some(breakage), Some(entry)) => broken(&text, breakage, &entry.role_arn, principal(args), &world)
            .map_err(|error| file_failure(&name, error.as_ref()))?,
        _ => world,
    };
    Ok((world, workload))
}

/// Refuses a fault that would change nothing: a success would mislead the user.
fn refuse_without_effect(
    breakage: Breakage,
    pod: &Workload,
    association: Option<&AssociationEntry>,
) -> Result<(), Failure> {
    let (cause, fix) = match association {
        None if breakage.changes_trust() || breakage == Breakage::NoAssociation => (
            format!(
                "--break {breakage} would change nothing: service account {} in namespace {} has no association \
                 in the file",
                pod.service_account, pod.namespace
            ),
            "Choose a pod that has an association, with --cluster, --namespace and --service-account.",
        ),
        Some(entry) if breakage == Breakage::NoTagSession && entry.disable_session_tags => (
            format!(
                "--break {breakage} would change nothing: the association of service account {} in namespace {} \
                 has disableSessionTags, so sts:TagSession is not needed",
                pod.service_account, pod.namespace
            ),
            "Choose a pod whose association has session tags, or --break trust-names-other-account.",
        ),
        _ => return Ok(()),
    };
    Err(Failure::local("start", "break_without_effect", cause, fix))
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

fn unreadable(name: &str, error: &ReadError) -> Failure {
    match error {
        ReadError::NotText => file_failure(name, error),
        _ => Failure::local(
            "start",
            "file_invalid",
            format!("{name}: {error}"),
            "Check the path and its permissions.",
        ),
    }
}

fn file_failure(name: &str, error: &dyn std::error::Error) -> Failure {
    Failure::local(
        "start",
        "file_invalid",
        format!("{name}: {error}"),
        "docs/local.md describes the file; `pod-identity-local sample` prints a valid one.",
    )
}
