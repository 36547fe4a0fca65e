//! What a pod is given so that its SDKs find its role's credentials.
//!
//! A container gets all of one way or nothing: two variables and the mount of a token that belong together.
//! The ways, the first that fits being taken:
//!
//! 1. Pod Identity, where an association is facts, or pod or namespace ask for it always;
//! 2. IRSA through the agent, where the account has a role and says so;
//! 3. IRSA, where the account has a role.
//!
//! A container to which the pod's annotation gives a role of its own gets it by IRSA.
//!
//! The patch adds and changes nothing. What is made by it is found by the next round, so that a second patch is
//! empty, and only containers are injected that another webhook has added meanwhile.

use std::collections::{BTreeSet, HashSet};

use serde_json::json;

use super::env::{self, Carried};
use super::grant::{self, Grant};
use super::method::Method;
use super::patch::Patch;
use super::pod::{Container, Pod, Variable};
use super::service_account::{self, NamespaceSettings, ServiceAccountFacts};
use super::settings::{Settings, TokenExpiration};
use super::skip::{self, Skip};
use super::volume::{self, Gap, Place, Tokens};
use super::warning::{Warning, WarningReason};

/// The label of pods that were given Pod Identity, as AWS's webhook sets it.
const LABEL: (&str, &str) = ("eks.amazonaws.com/pod-identity", "enabled");

/// What is to be done to a pod, and what there is to say about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    /// What is added.
    pub patch: Patch,
    /// What became of the pod.
    pub outcome: InjectionOutcome,
    /// By which ways its containers come to credentials from now on.
    pub methods: BTreeSet<Method>,
    /// What was not done or may not be as it looks.
    pub warnings: Vec<Warning>,
}

impl Injection {
    fn unchanged(outcome: InjectionOutcome) -> Self {
        Self { patch: Patch::default(), outcome, methods: BTreeSet::new(), warnings: Vec::new() }
    }

    /// The warnings for whoever creates the pod: as many as reach a client, the last of them saying how many more
    /// there would be.
    pub fn admission_warnings(&self) -> impl Iterator<Item = String> {
        let all = || self.warnings.iter().filter_map(Warning::warning);
        let shown = match all().count() {
            count if count > Warning::MOST_WARNINGS => Warning::MOST_WARNINGS - 1,
            count => count,
        };
        let more = all().count() - shown;
        let last = (more > 0).then(|| format!("pod-identity: and {more} more warnings"));
        all().take(shown).chain(last)
    }

    /// Why containers go without what their account has.
    pub fn missed(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.iter().filter(|notice| notice.reason.is_missed())
    }
}

/// What became of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectionOutcome {
    /// One container at least was given something.
    Injected,
    /// Some container should have been, and none was; a notice says why.
    Missed,
    /// Its containers have it from an earlier round, or from AWS's webhook.
    AlreadyInjected,
    /// It asks to be left as it is.
    Skipped(Skip),
    /// Nothing that is known gives it a role.
    NoRole,
}

impl InjectionOutcome {
    /// All that there are.
    pub const ALL: [Self; 7] = [
        Self::Injected,
        Self::Missed,
        Self::AlreadyInjected,
        Self::Skipped(Skip::MirrorPod),
        Self::Skipped(Skip::Label),
        Self::Skipped(Skip::Containers),
        Self::NoRole,
    ];

    /// The outcome as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Missed => "missed",
            Self::AlreadyInjected => "already_injected",
            Self::Skipped(Skip::MirrorPod) => "mirror_pod",
            Self::Skipped(Skip::Label) => "skip_label",
            Self::Skipped(Skip::Containers) => "skip_containers",
            Self::NoRole => "no_role",
        }
    }
}

/// Decides what is added to pods. It is made once, for all pods.
#[derive(Debug, Clone)]
pub struct Injector {
    settings: Settings,
}

impl Injector {
    /// Makes an injector with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Returns the settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Decides what is added to a pod that is about to be created.
    ///
    /// `random` is any number. It spreads the lifetimes of tokens whose lifetime is not set.
    pub fn inject(&self, pod: &Pod<'_>, facts: &ServiceAccountFacts, random: u32) -> Injection {
        inject(pod, facts, &self.settings, random)
    }

    /// Decides about a pod without facts about its service account, where they make no difference: the pod is skipped,
    /// was injected as a whole before, or always gets Pod Identity. Returns `None` if the facts are needed.
    ///
    /// An outage of the source of these facts neither delays nor refuses such a pod. The service account's settings for
    /// tokens have no effect on a pod that always gets Pod Identity.
    pub fn inject_without_lookup(
        &self,
        pod: &Pod<'_>,
        namespace: NamespaceSettings,
        random: u32,
    ) -> Option<Injection> {
        inject_without_lookup(pod, namespace, &self.settings, random)
    }
}

fn inject(pod: &Pod<'_>, facts: &ServiceAccountFacts, settings: &Settings, random: u32) -> Injection {
    if let Some(skip) = skip::whole_pod(pod, facts.namespace) {
        return Injection::unchanged(InjectionOutcome::Skipped(skip));
    }
    let of_pod = Grant::of_pod(pod, facts);
    let skipped = skip::containers(pod, settings);
    let mut audience_of_account = settings.web_identity.clone();
    if let Some(audience) = &facts.settings.audience {
        audience_of_account.audience.clone_from(audience);
    }
    let tokens = Tokens::of_pod(pod, &settings.pod_identity, &audience_of_account);
    let round = Round { pod, facts, settings, tokens };
    let mut done = Done::default();
    for (path, container) in pod.containers() {
        let own = Grant::of_container(pod, &container.name, facts, settings);
        let Some(grant) = own.as_ref().or(of_pod.as_ref()) else { continue };
        if skipped.contains(&*container.name) {
            done.skipped = true;
            continue;
        }
        round.container(&path, container, grant, own.is_some(), &mut done);
    }
    round.finish(done, random)
}

fn inject_without_lookup(
    pod: &Pod<'_>,
    namespace: NamespaceSettings,
    settings: &Settings,
    random: u32,
) -> Option<Injection> {
    let facts = ServiceAccountFacts { namespace, ..ServiceAccountFacts::default() };
    if skip::whole_pod(pod, namespace).is_some() {
        return Some(inject(pod, &facts, settings, random));
    }
    // Whether a role of a container's own goes through the agent, the account says.
    if pod.has_container_roles() {
        return None;
    }
    if Grant::of_pod(pod, &facts).is_some() {
        return Some(inject(pod, &facts, settings, random));
    }
    let skipped = skip::containers(pod, settings);
    let tokens = Tokens::of_pod(pod, &settings.pod_identity, &settings.web_identity);
    let (mut done, mut left_out) = (Done::default(), false);
    for (_, container) in pod.containers() {
        if skipped.contains(&*container.name) {
            left_out = true;
        } else {
            let method = env::whole(container, &tokens, settings)?;
            done.say_what_wins(container, method);
            done.already.insert(method);
        }
    }
    let outcome = match (done.already.is_empty(), left_out) {
        (false, _) => InjectionOutcome::AlreadyInjected,
        (true, true) => InjectionOutcome::Skipped(Skip::Containers),
        (true, false) => return None,
    };
    Some(Injection { methods: done.already, warnings: done.warnings, ..Injection::unchanged(outcome) })
}

/// What one pod is judged by.
struct Round<'a> {
    pod: &'a Pod<'a>,
    facts: &'a ServiceAccountFacts,
    settings: &'a Settings,
    tokens: Tokens<'a>,
}

/// What has been done so far.
#[derive(Default)]
struct Done {
    /// The patches of the containers, which follow those of the pod.
    containers: Patch,
    injected: BTreeSet<Method>,
    already: BTreeSet<Method>,
    /// The volumes that the pod needs: `true` for Pod Identity's, `false` for IRSA's.
    volumes: BTreeSet<bool>,
    skipped: bool,
    warnings: Vec<Warning>,
}

impl Done {
    fn say(&mut self, container: &Container<'_>, reason: WarningReason) {
        self.warnings.push(Warning { container: Some(container.name.clone().into_owned()), reason });
    }

    /// Says if the container sets itself what SDKs look at before the way that it is given, or has been given.
    fn say_what_wins(&mut self, container: &Container<'_>, method: Method) {
        let names = env::winning(container, method);
        if !names.is_empty() {
            self.say(container, WarningReason::VariablesWin { names });
        }
    }
}

/// The change to a container.
enum Plan {
    /// No change: the container has credentials by this method.
    Carries(Method),
    /// Injects the missing parts of the method.
    Complete,
    /// No change, for this reason.
    Leave(WarningReason),
}

impl Round<'_> {
    /// Injects the missing parts of a grant into a container, or returns the reason against it.
    fn container(&self, path: &str, container: &Container<'_>, grant: &Grant, own: bool, done: &mut Done) {
        match self.plan(container, grant, own) {
            Plan::Carries(method) => {
                self.compare_role(container, grant, method, done);
                done.say_what_wins(container, method);
                done.already.insert(method);
            }
            Plan::Complete => self.complete(path, container, grant, done),
            Plan::Leave(reason) => done.say(container, reason),
        }
    }

    fn plan(&self, container: &Container<'_>, grant: &Grant, own: bool) -> Plan {
        use Carried::{ByHand, Injected, Nothing, Own};
        let of_agent = env::container_credentials(container, &self.tokens, self.settings);
        let of_sts = env::web_identity(container, &self.tokens);
        let wanted = grant.method();
        let otherwise = |carried| Plan::Leave(WarningReason::InjectedOtherwise { carried, wanted });
        match (wanted, of_agent, of_sts) {
            (Method::WebIdentity, _, Injected) => Plan::Carries(wanted),
            (Method::WebIdentity, Nothing, _) => Plan::Complete,
            (Method::WebIdentity, _, ByHand) => Plan::Carries(wanted),
            // No token is injected beside a URI that is not the agent's, not even for another method.
            (Method::WebIdentity, Own(names), _) => Plan::Leave(WarningReason::OwnVariables { names }),
            (Method::PodIdentity | Method::ThroughAgent, Nothing | Own(_), Injected)
            | (Method::ThroughAgent, Nothing | Own(_), ByHand) => otherwise(Method::WebIdentity),
            // It would win in every SDK and bypass the agent.
            (Method::ThroughAgent, Nothing | Own(_), Own(names)) => {
                Plan::Leave(WarningReason::OwnVariables { names })
            }
            (_, Own(_), _) if env::goes_with_agent(container, wanted, &self.tokens, self.settings) => {
                Plan::Complete
            }
            (_, Own(names), _) => Plan::Leave(WarningReason::OwnVariables { names }),
            (_, Nothing, _) => Plan::Complete,
            // On EKS associations are not seen: an account with a role for IRSA may well have one, which counts
            // first. But it does not give a container the role of its own that the pod asks for.
            (_, of_agent, _) => match env::method_of_agent(container, self.settings) {
                carried if own && carried != wanted => otherwise(carried),
                carried if carried == wanted && of_agent == ByHand => Plan::Complete,
                carried => Plan::Carries(carried),
            },
        }
    }

    /// Adds a notice if the container has another role than the one that it would get now.
    fn compare_role(&self, container: &Container<'_>, grant: &Grant, method: Method, done: &mut Done) {
        let (variable, value, expected) = match grant {
            Grant::WebIdentity(role) => (env::ROLE_ARN, role.as_str().to_owned(), role.as_str()),
            Grant::ThroughAgent(role) => (env::FULL_URI, self.settings.role_uri(role), role.as_str()),
            Grant::PodIdentity => return,
        };
        let carried = env::value(container, variable).unwrap_or_default();
        if method == grant.method() && !carried.is_empty() && carried != env::literal(&value) {
            let carried = carried.strip_prefix(&self.settings.roles_uri()).unwrap_or(carried).to_owned();
            done.say(container, WarningReason::RoleDiffers { carried, expected: expected.to_owned() });
        }
    }

    /// Injects the missing parts of a grant: the variables that the container does not set itself, and the token at
    /// its usual path, which programs with other settings read too. It never adds one variable of a pair alone.
    fn complete(&self, path: &str, container: &Container<'_>, grant: &Grant, done: &mut Done) {
        let (method, token) = (grant.method(), self.tokens.of(grant.method()));
        let projection = token.projection;
        let pair = grant.variables(projection.token_file(self.pod.is_windows()), self.settings);
        let names = [pair[0].0, pair[1].0];
        let own = env::present(container, &names);
        // An empty value switches the method off: some SDKs fail on the other variable beside it.
        let off = names.iter().filter_map(|name| container.variable(name)).any(Variable::is_switched_off);
        let lacking: Vec<_> = pair.into_iter().filter(|(name, _)| !off && !own.contains(name)).collect();
        let by_hand = env::value(container, names[1])
            .is_some_and(|path| self.tokens.audience_at(container, path) == Some(&projection.audience));
        let reached = env::value(container, names[1])
            .is_none_or(|path| env::reaches(container, path, token, &self.tokens));
        let gap = match self.tokens.gap(container, token) {
            Ok(gap) => gap,
            // It does not need the usual path.
            Err(_) if by_hand => Gap::Nothing,
            Err(reason) => return done.say(container, reason),
        };
        let nothing_to_add = lacking.is_empty() && gap == Gap::Nothing;
        if nothing_to_add {
            done.already.insert(method);
        } else {
            self.inject(path, container, method, lacking, gap, done);
        }
        self.compare_role(container, grant, method, done);
        if off || !reached {
            done.say(container, WarningReason::OwnVariables { names: own });
        } else if !own.is_empty() && !nothing_to_add {
            done.say(container, WarningReason::OwnVariablesStay { names: own });
        }
        self.look_at_the_rest(container, grant, done);
    }

    fn inject(
        &self,
        path: &str,
        container: &Container<'_>,
        method: Method,
        lacking: Vec<(&'static str, String)>,
        gap: Gap,
        done: &mut Done,
    ) {
        let token = self.tokens.of(method);
        let regional_sts = self.facts.settings.regional_sts.unwrap_or(self.settings.regional_sts);
        let variables = env::additions(container, lacking, regional_sts, self.settings);
        done.containers.append(&format!("{path}/env"), container.env.is_some(), variables);
        if gap == Gap::Mount {
            let mounts = format!("{path}/volumeMounts");
            let mount = volume::mount(token.projection);
            done.containers.append(&mounts, container.volume_mounts.is_some(), vec![mount]);
        }
        if gap != Gap::Nothing && token.place == Place::Free {
            done.volumes.insert(method == Method::PodIdentity);
        }
        done.injected.insert(method);
    }

    /// Says what may keep an injected container from what it was given.
    fn look_at_the_rest(&self, container: &Container<'_>, grant: &Grant, done: &mut Done) {
        if let Grant::WebIdentity(service_account::Role::Invalid(text)) = grant
            && container.variable(env::ROLE_ARN).is_none()
        {
            done.say(container, WarningReason::RoleInvalid { text: text.clone() });
        }
        done.say_what_wins(container, grant.method());
        let families = [&env::BEFORE_ALL[..], &env::WEB_IDENTITY, &env::CONTAINER_CREDENTIALS].concat();
        if container.may_be_set_from_elsewhere(&families) {
            done.say(container, WarningReason::UnseenVariables);
        }
    }

    fn finish(&self, mut done: Done, random: u32) -> Injection {
        let of_pod = |reason| Warning { container: None, reason };
        let names: HashSet<_> = self.pod.containers().map(|(_, container)| &*container.name).collect();
        for key in self.pod.metadata.annotations.iter().flat_map(|annotations| annotations.keys()) {
            if let Some(name) =
                key.strip_prefix(grant::ROLE_OF_CONTAINER).filter(|name| !names.contains(name))
            {
                done.warnings.push(of_pod(WarningReason::ContainerUnknown { name: name.to_owned() }));
            }
        }
        let mut patch = Patch::default();
        if !done.injected.is_empty() {
            done.warnings.extend(self.facts.settings.unused.iter().cloned().map(of_pod));
            let expiration = self.expiration(random, &mut done.warnings);
            self.patch_pod(&done, expiration, &mut patch);
        }
        patch.extend(done.containers);
        let missed = done.warnings.iter().any(|notice| notice.reason.is_missed());
        let outcome = match () {
            () if !done.injected.is_empty() => InjectionOutcome::Injected,
            () if missed => InjectionOutcome::Missed,
            () if !done.already.is_empty() => InjectionOutcome::AlreadyInjected,
            () if done.skipped => InjectionOutcome::Skipped(Skip::Containers),
            () => InjectionOutcome::NoRole,
        };
        let methods = done.injected.union(&done.already).copied().collect();
        Injection { patch, outcome, methods, warnings: done.warnings }
    }

    /// Adds what containers were injected with and the pod as a whole has to have: the label, the volumes.
    fn patch_pod(&self, done: &Done, expiration: TokenExpiration, patch: &mut Patch) {
        if done.injected.contains(&Method::PodIdentity) && self.pod.label(LABEL.0).is_none() {
            patch.add_member("/metadata/labels", self.pod.metadata.labels.is_some(), LABEL.0, json!(LABEL.1));
        }
        let volumes = [(true, &self.tokens.pod_identity), (false, &self.tokens.web_identity)]
            .into_iter()
            .filter(|(pod_identity, _)| done.volumes.contains(pod_identity))
            .map(|(_, token)| volume::volume(token.projection, expiration));
        patch.append("/spec/volumes", self.pod.spec.volumes.is_some(), volumes.collect());
    }

    /// How long the tokens live: what the pod says, else its account, else the settings, else by chance.
    fn expiration(&self, random: u32, warnings: &mut Vec<Warning>) -> TokenExpiration {
        let key = self.settings.annotation("token-expiration");
        let mut unused = Vec::new();
        let of_pod =
            self.pod.annotation(&key).and_then(|text| service_account::expiration(&key, text, &mut unused));
        warnings.extend(unused.into_iter().map(|reason| Warning { container: None, reason }));
        of_pod
            .or(self.facts.settings.token_expiration)
            .or(self.settings.token_expiration)
            .unwrap_or_else(|| TokenExpiration::spread(random))
    }
}

#[cfg(test)]
mod tests;
