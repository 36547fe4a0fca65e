//! The command `run`: starts the services, checks each step, then acts as the pod.

mod fix;
mod path_check;
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
use crate::fault::Fault;
use crate::fixture::Fixture;
use crate::report::{Failure, Report};
use crate::sample::SAMPLE;
use crate::services::{AuthPrincipal, LocalConfig, LocalServices, Workload, select_cluster};

/// Maximum size of a fixture file in bytes.
const MAX_FILE: usize = 16 * 1024 * 1024;

/// Runs the command `run`. Returns the exit status, which is that of the program after `--` if there is one.
pub async fn run(args: RunArgs) -> ExitCode {
    let mut report = Report::new(args.output, !args.program.is_empty());
    match run_steps(&args, &mut report).await {
        Ok(code) => code,
        Err(failure) => {
            report.fail(&failure);
            ExitCode::from(failure.status)
        }
    }
}

async fn run_steps(args: &RunArgs, report: &mut Report) -> Result<ExitCode, Failure> {
    // With a program, `PodEnvironment` handles the signals.
    let shutdown = match args.program.is_empty() {
        true => Shutdown::on_signal().map_err(|error| start_failure(&error))?,
        false => Shutdown::never(),
    };
    let (fixture, workload) = prepare(args)?;
    if let Some(fault) = args.fault {
        report.print(&format!("injected fault: {}", fault.description()));
    }
    report.print(match principal(args) {
        AuthPrincipal::EksService => {
            "the auth service acts as EKS's service principal, pods.eks.amazonaws.com, so that you can try trust \
             policies written for EKS (--self-managed: as an IAM role, as on a cluster of your own)\n"
        }
        AuthPrincipal::IamRole => {
            "the auth service acts as an IAM role, as on a cluster that is not EKS\n"
        }
    });
    let config = LocalConfig {
        principal: principal(args),
        expire_after: args.expire_after,
        cluster: args.cluster.clone(),
        ..LocalConfig::default()
    };
    let services = LocalServices::start(fixture, config).await.map_err(|error| start_failure(&error))?;
    report.set_principal(services.principal());
    let pod = PodEnvironment::new(&services).map_err(|error| start_failure(&error))?;

    PathCheck { services: &services, workload: &workload, fault: args.fault, pod: &pod }.run(report).await?;
    let code = tokio::select! {
        result = pod.run(args, &services, report, shutdown) => result,
        never = pod.rotate_token(&services, &workload) => match never {},
    };
    services.stop().await;
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
fn prepare(args: &RunArgs) -> Result<(Fixture, Workload), Failure> {
    let (name, text) = match &args.file {
        None => ("the built-in file".to_owned(), SAMPLE.to_owned()),
        Some(path) => {
            let text =
                read_text(path, MAX_FILE).map_err(|error| unreadable(&path.display().to_string(), &error))?;
            (path.display().to_string(), text.to_string())
        }
    };
    // The original text is read first, so that errors refer to the lines of the user's file.
    let fixture = Fixture::from_yaml(&text).map_err(|error| file_failure(&name, &error))?;
    let associations = &fixture.associations;
    let cluster =
        &select_cluster(associations, args.cluster.as_ref()).map_err(|error| start_failure(&error))?.name;
    let cluster_associations =
        || associations.associations.iter().filter(|entry| entry.cluster_name == *cluster);
    let first = cluster_associations().next();
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
    let association = cluster_associations()
        .find(|entry| entry.namespace == namespace && entry.service_account == service_account)
        .cloned();
    let workload = Workload::new(namespace, service_account, args.pod.clone());
    let workload = workload.map_err(|error| start_failure(&error))?;
    if let Some(fault) = args.fault {
        check_fault_has_effect(fault, &workload, association.as_ref())?;
    }
    let fixture = match (args.fault, association) {
        (Some(fault), Some(entry)) => with_fault(&text, fault, &entry.role_arn, principal(args), &fixture)
            .map_err(|error| file_failure(&name, error.as_ref()))?,
        _ => fixture,
    };
    Ok((fixture, workload))
}

/// Refuses a fault that would change nothing: a success would mislead the user.
fn check_fault_has_effect(
    fault: Fault,
    pod: &Workload,
    association: Option<&AssociationEntry>,
) -> Result<(), Failure> {
    let (cause, fix) = match association {
        None if fault.changes_trust() || fault == Fault::NoAssociation => (
            format!(
                "--break {fault} would change nothing: service account {} in namespace {} has no association \
                 in the file",
                pod.service_account, pod.namespace
            ),
            "Choose a pod that has an association, with --cluster, --namespace and --service-account.",
        ),
        Some(entry) if fault == Fault::NoTagSession && entry.disable_session_tags => (
            format!(
                "--break {fault} would change nothing: the association of service account {} in namespace {} \
                 has disableSessionTags, so sts:TagSession is not needed",
                pod.service_account, pod.namespace
            ),
            "Choose a pod whose association has session tags, or --break trust-names-other-account.",
        ),
        _ => return Ok(()),
    };
    Err(Failure::local("start", "break_without_effect", cause, fix))
}

fn with_fault(
    text: &str,
    fault: Fault,
    role: &RoleArn,
    principal: AuthPrincipal,
    fixture: &Fixture,
) -> Result<Fixture, Box<dyn std::error::Error>> {
    let mut file: Value = serde_saphyr::from_str(text)?;
    let principal = match principal {
        AuthPrincipal::EksService => json!({"Service": "pods.eks.amazonaws.com"}),
        AuthPrincipal::IamRole => {
            let arns = fixture.callers().filter_map(|known| known.caller.principal_arn());
            json!({"AWS": arns.collect::<Vec<_>>()})
        }
    };
    fault.apply_to_file(&mut file, role, &principal);
    Ok(Fixture::from_yaml(&file.to_string())?)
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
        "docs/reference/local.md describes the file; `pod-identity-local sample` prints a valid one.",
    )
}
