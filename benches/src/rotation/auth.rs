//! The part of the auth service: cached sessions of pods with verified tokens.

use std::time::{Duration, SystemTime};

use pod_identity_auth::config::default_service;
use pod_identity_core::association::{Association, AssociationTable};
use pod_identity_core::cluster::Cluster;
use pod_identity_core::credentials::{AssumedRole, SessionCredentials};
use pod_identity_core::service::{
    AuthorizedPod, CredentialRequest, CredentialService, CredentialSource, IssueFuture, Issuer, Origin,
};
use pod_identity_core::token::KeySet;
use pod_identity_local::issuer::KeyAlgorithm;
use pod_identity_runtime::clock;
use tokio::runtime::Runtime;

use super::{FEW, MANY, ROUNDS, each_has, resident};
use crate::Outcome;
use crate::measure::{Pairs, cpu_of, each};
use crate::pods::{ISSUER, pod, token};

const LIFETIME: Duration = Duration::from_secs(3600);
/// The usual length of an AWS session token.
const SESSION_TOKEN_LENGTH: usize = 1000;

type Error = Box<dyn std::error::Error>;

pub(super) fn run() -> Outcome {
    let (many, few) = (Cached::new(MANY)?, Cached::new(FEW)?);
    let before = resident()?;
    many.fill()?;
    let filled = resident()?;
    few.fill()?;

    let mut turns = (0..MANY / FEW).cycle();
    let turn_of_many = || many.request(turns.next().unwrap_or_default() * FEW);
    let pairs = Pairs::in_turn(ROUNDS, turn_of_many, || few.request(0))?;
    pairs.print("a request for a cached session", "among 100,000", "among 2,000", "µs");
    println!(
        "  memory of a session: {} bytes, its association and its pod's token left out; in it: the session token \
         {SESSION_TOKEN_LENGTH}",
        each_has(filled.saturating_sub(before)),
    );
    Ok(())
}

/// A service with the settings of the auth service, and its authorized pods. Each has a service account of its own.
struct Cached {
    runtime: Runtime,
    service: CredentialService,
    pods: Vec<AuthorizedPod>,
}

impl Cached {
    fn new(count: u32) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let issuer =
            pod_identity_local::issuer::Issuer::new(ISSUER, "http://127.0.0.1:1", KeyAlgorithm::Es256)?;
        let keys = KeySet::from_jwks(issuer.jwks().as_ref())?;
        let cluster = Cluster::new("bench".parse()?).in_region("eu-west-1", "111122223333".parse()?);
        let association = |number| -> Result<_, Error> {
            let pod = pod(number as usize)?;
            let role = format!("arn:aws:iam::111122223333:role/{}", pod.service_account).parse()?;
            Ok(Association::new(format!("a-{number}").parse()?, pod.namespace, pod.service_account, role))
        };
        let associations = (0..count).map(association).collect::<Result<_, _>>()?;
        let table = AssociationTable::build([(cluster.clone(), associations)])?;
        let mut config = default_service();
        config.capacity = MANY as usize;
        let service = {
            let _entered = runtime.enter();
            CredentialService::builder(Sts)
                .cluster(cluster.clone(), Issuer::fixed(ISSUER, keys))
                .associations(table)
                .config(config)
                .build()?
        };
        let authorized = |number| -> Result<_, Error> {
            let token = token(&issuer, &pod(number as usize)?)?;
            let authorized = async { service.authorize(service.verify(&cluster.name, &token).await?).await };
            Ok(runtime.block_on(authorized)?)
        };
        let pods = (0..count).map(authorized).collect::<Result<_, _>>()?;
        Ok(Self { runtime, service, pods })
    }

    /// Fetches all sessions.
    fn fill(&self) -> Outcome {
        let count = u32::try_from(self.pods.len())?;
        let (all_fetched, took) = cpu_of(|| self.issue(&self.pods, Origin::Fetched));
        if !all_fetched {
            return Err("a session was cached before it was fetched".into());
        }
        println!("  first requests of {count}: {:.3} µs each", each(took, count) / 1e3);
        Ok(())
    }

    /// Requests some sessions. Returns the microseconds of a request.
    fn request(&self, from: u32) -> Result<f64, Error> {
        let pods = &self.pods[from as usize..(from + FEW) as usize];
        let (all_cached, took) = cpu_of(|| self.issue(pods, Origin::Cached));
        if !all_cached {
            return Err("a cached session was not found".into());
        }
        Ok(each(took, FEW) / 1e3)
    }

    /// Issues the credentials of the pods, and returns whether all have an origin.
    fn issue(&self, pods: &[AuthorizedPod], origin: Origin) -> bool {
        self.runtime.block_on(async {
            for pod in pods {
                if !self.service.issue(pod).await.is_ok_and(|issued| issued.origin() == origin) {
                    return false;
                }
            }
            true
        })
    }
}

/// An STS that responds at once.
struct Sts;

impl CredentialSource for Sts {
    fn issue<'a>(&'a self, request: &'a CredentialRequest) -> IssueFuture<'a> {
        Box::pin(async move {
            let expires_at: SystemTime = clock::now() + LIFETIME;
            let (secret, token) = ("s".repeat(40), "t".repeat(SESSION_TOKEN_LENGTH));
            let session = SessionCredentials::new("ASIAEXAMPLEEXAMPLE12", secret, token, expires_at);
            let role =
                request.association().map(|association| association.role.session("eks-bench-checkout"));
            let arn = role.and_then(|role| role.parse().ok());
            let id = "AROAEXAMPLEEXAMPLE123:eks-bench-checkout".to_owned();
            Ok(match arn {
                Some(arn) => session.with_assumed_role(AssumedRole { arn, id }),
                None => session,
            })
        })
    }
}
