//! The decision: which containers of a pod get which method.
//!
//! The patch only adds. A second injection finds the parts that the first one added, so its patch is empty, unless another
//! webhook has added containers in between.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use super::env::{self, Existing};
use super::expansion::literal;
use super::grant::{self, Grant};
use super::method::Method;
use super::names;
use super::patch::{Operations, Patch};
use super::pod::{Container, ContainerPath, Pod, Variable};
use super::prepared::Prepared;
use super::service_account::{self, NamespaceSettings, Role, ServiceAccountFacts};
use super::settings::{Settings, TokenExpiration};
use super::skip::{self, Skip};
use super::token::{MissingParts, Token, Tokens, VolumeState};
use super::warning::{Warning, WarningReason};
use super::writer::push_string;

/// The change to a pod, and the warnings about it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Injection {
    /// The additions to the pod.
    pub patch: Patch,
    /// The outcome for the whole pod.
    pub outcome: InjectionOutcome,
    /// The methods of the pod's containers after the patch.
    pub methods: BTreeSet<Method>,
    /// Containers without injection, and settings that may not have the effect that the user expects.
    pub warnings: Vec<Warning>,
}

impl Injection {
    fn unchanged(outcome: InjectionOutcome) -> Self {
        Self { patch: Patch::default(), outcome, methods: BTreeSet::new(), warnings: Vec::new() }
    }

    /// Returns the warnings for the person who creates the pod: as many as reach a client. The last one has the number of
    /// further warnings.
    pub fn admission_warnings(&self) -> impl Iterator<Item = String> {
        let for_people = || self.warnings.iter().filter(|warning| warning.reason.is_for_people());
        let shown = match for_people().count() {
            count if count > Warning::MOST_WARNINGS => Warning::MOST_WARNINGS - 1,
            count => count,
        };
        let more = for_people().count() - shown;
        let last = (more > 0).then(|| format!("pod-identity: and {more} more warnings"));
        for_people().take(shown).filter_map(Warning::warning).chain(last)
    }

    /// Returns the warnings about containers that lack credentials which their service account has or may have.
    pub fn missed(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.iter().filter(|warning| warning.reason.is_missed())
    }
}

/// The outcome of an injection for the whole pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InjectionOutcome {
    /// The patch adds to one container at least.
    Injected,
    /// A container lacks credentials that it should have, and nothing was injected. A warning has the reason.
    Missed,
    /// The containers have credentials from an earlier injection or another webhook.
    AlreadyInjected,
    /// The pod asks not to be injected.
    Skipped(Skip),
    /// The service account has no role.
    NoRole,
}

impl InjectionOutcome {
    /// All outcomes.
    pub const ALL: [Self; 7] = [
        Self::Injected,
        Self::Missed,
        Self::AlreadyInjected,
        Self::Skipped(Skip::MirrorPod),
        Self::Skipped(Skip::Label),
        Self::Skipped(Skip::Containers),
        Self::NoRole,
    ];

    /// Returns the outcome as the value of a metric's label.
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

/// Decides what is added to pods. One injector serves all pods.
///
/// ```
/// use pod_identity_core::inject::{InjectionOutcome, Injector, Pod, ServiceAccountFacts, Settings};
///
/// let pod = Pod::parse(r#"{"metadata": {}, "spec": {"containers": [{"name": "app", "env": []}]}}"#)?;
/// let facts = ServiceAccountFacts { associated: true, ..ServiceAccountFacts::default() };
/// let injection = Injector::new(Settings::default()).inject(&pod, &facts, 0);
/// assert_eq!(injection.outcome, InjectionOutcome::Injected);
/// assert!(injection.patch.paths().any(|path| path == "/spec/containers/0/env/-"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Injector {
    prepared: Prepared,
}

impl Injector {
    /// Returns an injector with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { prepared: Prepared::new(settings) }
    }

    /// Returns the settings.
    pub fn settings(&self) -> &Settings {
        &self.prepared.settings
    }

    /// Decides what is added to a pod that is about to be created.
    ///
    /// `random` is any number. It spreads the lifetimes of tokens that have no lifetime set.
    pub fn inject(&self, pod: &Pod<'_>, facts: &ServiceAccountFacts, random: u32) -> Injection {
        inject(pod, facts, &self.prepared, random)
    }

    /// Decides about a pod for which the facts about its service account make no difference: the pod is skipped, was
    /// injected as a whole before, or always gets Pod Identity. Returns `None` if the facts are needed.
    ///
    /// An outage of the source of these facts neither delays nor refuses such a pod. The service account's settings for
    /// tokens have no effect on a pod that always gets Pod Identity.
    pub fn inject_without_lookup(
        &self,
        pod: &Pod<'_>,
        namespace: NamespaceSettings,
        random: u32,
    ) -> Option<Injection> {
        inject_without_lookup(pod, namespace, &self.prepared, random)
    }

    /// Returns the names and values of the variables that a container with no variables of its own gets, for a process that
    /// runs elsewhere with the token in `token_file`.
    ///
    /// A container's values have `$$` in place of `$`, since kubelet expands them. These values are the expanded ones.
    ///
    /// ```
    /// use pod_identity_core::inject::{Grant, Injector, Settings};
    ///
    /// let settings = Settings { full_uri: "http://127.0.0.1:8080/v1/credentials".to_owned(), ..Settings::default() };
    /// let injector = Injector::new(settings);
    /// assert_eq!(injector.variables(Grant::PodIdentity, "/home/dev/token"), [
    ///     ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:8080/v1/credentials".to_owned()),
    ///     ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/home/dev/token".to_owned()),
    /// ]);
    /// ```
    pub fn variables(&self, grant: Grant<'_>, token_file: &str) -> Vec<(&'static str, String)> {
        let settings = self.settings();
        let method = grant.variables(token_file, &self.prepared);
        let variables = env::additions(method, settings.regional_sts, settings, |_| false);
        variables.map(|(name, value)| (name, value.into_owned())).collect()
    }
}

fn inject(pod: &Pod<'_>, facts: &ServiceAccountFacts, prepared: &Prepared, random: u32) -> Injection {
    if let Some(skip) = skip::whole_pod(pod, facts.namespace) {
        return Injection::unchanged(InjectionOutcome::Skipped(skip));
    }
    let of_pod = Grant::of_pod(pod, facts);
    if of_pod.is_none() && !pod.has_container_roles() {
        return Injection::unchanged(InjectionOutcome::NoRole);
    }
    let skipped = skip::containers(pod, prepared);
    let tokens = Tokens::of_pod(pod, prepared, facts.settings.audience.as_deref());
    let decision = Decision { pod, facts, prepared, tokens };
    let mut changes = Changes::default();
    for (path, container) in pod.containers() {
        let role = grant::container_role(pod, &container.name, prepared);
        let own = role.as_ref().map(|role| Grant::of_role(role, facts));
        let Some(grant) = own.or(of_pod) else { continue };
        if skipped.contains(&*container.name) {
            changes.has_skipped = true;
            continue;
        }
        decision.container(path, container, grant, own.is_some(), &mut changes);
    }
    decision.finish(changes, random)
}

fn inject_without_lookup(
    pod: &Pod<'_>,
    namespace: NamespaceSettings,
    prepared: &Prepared,
    random: u32,
) -> Option<Injection> {
    let facts = ServiceAccountFacts { namespace, ..ServiceAccountFacts::default() };
    if skip::whole_pod(pod, namespace).is_some() {
        return Some(inject(pod, &facts, prepared, random));
    }
    // The service account decides whether a container's own role is assumed through the agent.
    if pod.has_container_roles() {
        return None;
    }
    if Grant::of_pod(pod, &facts).is_some() {
        return Some(inject(pod, &facts, prepared, random));
    }
    let skipped = skip::containers(pod, prepared);
    let tokens = Tokens::of_pod(pod, prepared, None);
    let mut changes = Changes::default();
    for (_, container) in pod.containers() {
        if skipped.contains(&*container.name) {
            changes.has_skipped = true;
        } else {
            let method = env::injected_method(container, &tokens, prepared)?;
            changes.warn_of_preceding(container, method);
            changes.existing.insert(method);
        }
    }
    let outcome = match (changes.existing.is_empty(), changes.has_skipped) {
        (false, _) => InjectionOutcome::AlreadyInjected,
        (true, true) => InjectionOutcome::Skipped(Skip::Containers),
        (true, false) => return None,
    };
    Some(Injection { methods: changes.existing, warnings: changes.warnings, ..Injection::unchanged(outcome) })
}

/// The inputs of a decision about one pod.
struct Decision<'a> {
    pod: &'a Pod<'a>,
    facts: &'a ServiceAccountFacts,
    prepared: &'a Prepared,
    tokens: Tokens<'a>,
}

/// The results for the containers so far.
#[derive(Default)]
struct Changes {
    /// The operations on containers. Those on the pod come before them in the patch.
    containers: Operations,
    injected: BTreeSet<Method>,
    /// The methods of containers that lack nothing.
    existing: BTreeSet<Method>,
    /// Whether the pod needs the volumes of Pod Identity and IRSA.
    needs_pod_identity_volume: bool,
    needs_web_identity_volume: bool,
    /// Whether the annotation `skip-containers` names a container that would be injected.
    has_skipped: bool,
    warnings: Vec<Warning>,
}

impl Changes {
    fn warn(&mut self, container: &Container<'_>, reason: WarningReason) {
        self.warnings.push(Warning { container: Some(container.name.clone().into_owned()), reason });
    }

    /// Adds a warning if the container sets variables that SDKs read before those of its method.
    fn warn_of_preceding(&mut self, container: &Container<'_>, method: Method) {
        let names = env::preceding(container, method);
        if !names.is_empty() {
            self.warn(container, WarningReason::VariablesWin { names });
        }
    }
}

/// The change to a container.
enum Plan {
    /// No change: the container has credentials by this method.
    Keep(Method),
    /// Injects the missing parts of the method.
    Complete,
    /// No change, for this reason.
    Leave(WarningReason),
}

impl Decision<'_> {
    /// Injects the missing parts of a grant into a container, or adds a warning with the reason against it. `is_own`: an
    /// annotation gives this container the grant.
    fn container(
        &self,
        path: ContainerPath,
        container: &Container<'_>,
        grant: Grant<'_>,
        is_own: bool,
        changes: &mut Changes,
    ) {
        match self.plan(container, grant, is_own) {
            Plan::Keep(method) => {
                self.compare_role(container, grant, method, changes);
                changes.warn_of_preceding(container, method);
                changes.existing.insert(method);
            }
            Plan::Complete => self.complete(path, container, grant, changes),
            Plan::Leave(reason) => changes.warn(container, reason),
        }
    }

    fn plan(&self, container: &Container<'_>, grant: Grant<'_>, is_own: bool) -> Plan {
        use Existing::{ByHand, Injected, Nothing, Own};
        let of_agent = env::container_credentials(container, &self.tokens, self.prepared);
        let of_sts = env::web_identity(container, &self.tokens);
        let wanted = grant.method();
        let otherwise = |existing| Plan::Leave(WarningReason::InjectedOtherwise { existing, wanted });
        match (wanted, of_agent, of_sts) {
            (Method::WebIdentity, _, Injected) => Plan::Keep(wanted),
            (Method::WebIdentity, Nothing, _) => Plan::Complete,
            (Method::WebIdentity, _, ByHand) => Plan::Keep(wanted),
            // No token is injected beside a URI that is not the agent's, not even for another method.
            (Method::WebIdentity, Own(names), _) => Plan::Leave(WarningReason::OwnVariables { names }),
            (Method::PodIdentity | Method::ThroughAgent, Nothing | Own(_), Injected)
            | (Method::ThroughAgent, Nothing | Own(_), ByHand) => otherwise(Method::WebIdentity),
            // SDKs would use these variables and bypass the agent.
            (Method::ThroughAgent, Nothing | Own(_), Own(names)) => {
                Plan::Leave(WarningReason::OwnVariables { names })
            }
            (_, Own(_), _) if env::fits_agent(container, wanted, &self.tokens, self.prepared) => {
                Plan::Complete
            }
            (_, Own(names), _) => Plan::Leave(WarningReason::OwnVariables { names }),
            (_, Nothing, _) => Plan::Complete,
            // EKS does not show its associations to this webhook: a service account with a role for IRSA may have one, which
            // takes precedence. But an association does not give a container the role of its own that the pod asks for.
            (_, of_agent, _) => match env::agent_method(container, self.prepared) {
                existing if is_own && existing != wanted => otherwise(existing),
                existing if existing == wanted && of_agent == ByHand => Plan::Complete,
                existing => Plan::Keep(existing),
            },
        }
    }

    /// Adds a warning if the container has another role than the one that it would get now.
    fn compare_role(
        &self,
        container: &Container<'_>,
        grant: Grant<'_>,
        method: Method,
        changes: &mut Changes,
    ) {
        let variable = match grant {
            Grant::WebIdentity(_) => env::ROLE_ARN,
            Grant::ThroughAgent(_) => env::FULL_URI,
            Grant::PodIdentity => return,
        };
        let (Some(existing), Some(expected)) = (env::value(container, variable), grant.role()) else {
            return;
        };
        if method == grant.method() && !existing.is_empty() && !grant.is_first_value(existing, self.prepared)
        {
            let existing = existing.strip_prefix(&self.prepared.roles_uri).unwrap_or(existing).to_owned();
            changes.warn(container, WarningReason::RoleDiffers { existing, expected: expected.to_owned() });
        }
    }

    /// Injects the missing parts of a grant: the variables that the container does not set itself, and the token at its
    /// usual path, which programs with other settings read too. It never adds one variable of a pair alone.
    fn complete(
        &self,
        path: ContainerPath,
        container: &Container<'_>,
        grant: Grant<'_>,
        changes: &mut Changes,
    ) {
        let (method, token) = (grant.method(), self.tokens.of(grant.method()));
        let pair = grant.variables(token.file(self.pod.is_windows()), self.prepared);
        let names = [pair[0].0, pair[1].0];
        let own = env::present(container, &names);
        // An empty value switches the method off: some SDKs fail on the other variable beside it.
        let is_off = names.iter().filter_map(|name| container.variable(name)).any(Variable::is_empty);
        let is_missing = |name: &'static str| !is_off && !own.contains(&name);
        let token_path = env::value(container, names[1]);
        let is_mounted = |path| self.tokens.audience_at(container, path) == Some(token.audience);
        let parts = match self.tokens.missing_parts(container, token) {
            Ok(parts) => parts,
            // The container has the token at a path of its own and needs no other.
            Err(_) if token_path.is_some_and(is_mounted) => MissingParts::Nothing,
            Err(reason) => return changes.warn(container, reason),
        };
        let is_complete = !names.into_iter().any(is_missing) && parts == MissingParts::Nothing;
        if is_complete {
            changes.existing.insert(method);
        } else {
            let missing = pair.into_iter().filter(|(name, _)| is_missing(name));
            self.inject(path, container, method, missing, parts, changes);
        }
        self.compare_role(container, grant, method, changes);
        let has_token =
            token_path.is_none_or(|path| env::is_token_path(container, path, token, &self.tokens));
        if is_off || !has_token {
            changes.warn(container, WarningReason::OwnVariables { names: own });
        } else if !own.is_empty() && !is_complete {
            changes.warn(container, WarningReason::OwnVariablesStay { names: own });
        }
        self.warn_of_others(container, grant, changes);
    }

    fn inject<'v>(
        &self,
        path: ContainerPath,
        container: &Container<'_>,
        method: Method,
        missing: impl Iterator<Item = (&'static str, Cow<'v, str>)>,
        parts: MissingParts,
        changes: &mut Changes,
    ) {
        let settings = &self.prepared.settings;
        let regional_sts = self.facts.settings.regional_sts.unwrap_or(settings.regional_sts);
        let is_set = |name: &str| container.variable(name).is_some();
        let missing: Vec<_> = missing.collect();
        let variables = env::additions(missing, regional_sts, settings, is_set);
        let operations = &mut changes.containers;
        operations.append(format_args!("{path}/env"), container.env.is_some(), variables, push_variable);
        let token = self.tokens.of(method);
        if parts == MissingParts::Mount {
            let mounts = format_args!("{path}/volumeMounts");
            operations.append(mounts, container.volume_mounts.is_some(), [token], |json, token| {
                token.push_mount(json);
            });
        }
        if parts != MissingParts::Nothing && token.volume == VolumeState::Absent {
            match method {
                Method::PodIdentity => changes.needs_pod_identity_volume = true,
                Method::ThroughAgent | Method::WebIdentity => changes.needs_web_identity_volume = true,
            }
        }
        changes.injected.insert(method);
    }

    /// Adds warnings of settings that may keep an injected container from using its variables.
    fn warn_of_others(&self, container: &Container<'_>, grant: Grant<'_>, changes: &mut Changes) {
        if let Grant::WebIdentity(Role::Invalid(text)) = grant
            && container.variable(env::ROLE_ARN).is_none()
        {
            changes.warn(container, WarningReason::RoleInvalid { text: text.clone() });
        }
        changes.warn_of_preceding(container, grant.method());
        let names = env::STATIC.iter().chain(&env::WEB_IDENTITY).chain(&env::CONTAINER_CREDENTIALS);
        if container.env_from_may_set(names) {
            changes.warn(container, WarningReason::UnseenVariables);
        }
    }

    fn finish(&self, mut changes: Changes, random: u32) -> Injection {
        let of_pod = |reason| Warning { container: None, reason };
        if self.pod.has_container_roles() {
            let names: HashSet<_> = self.pod.containers().map(|(_, container)| &*container.name).collect();
            let unknown = self.pod.containers_with_role().filter(|name| !names.contains(name));
            let unknown =
                unknown.map(|name| of_pod(WarningReason::ContainerUnknown { name: name.to_owned() }));
            changes.warnings.extend(unknown);
        }
        let patch = if changes.injected.is_empty() {
            Patch::default()
        } else {
            changes.warnings.extend(self.facts.settings.unused.iter().cloned().map(of_pod));
            let expiration = self.expiration(random, &mut changes.warnings);
            self.patch(&changes, expiration)
        };
        let missed = changes.warnings.iter().any(|warning| warning.reason.is_missed());
        let outcome = match () {
            () if !changes.injected.is_empty() => InjectionOutcome::Injected,
            () if missed => InjectionOutcome::Missed,
            () if !changes.existing.is_empty() => InjectionOutcome::AlreadyInjected,
            () if changes.has_skipped => InjectionOutcome::Skipped(Skip::Containers),
            () => InjectionOutcome::NoRole,
        };
        let mut methods = changes.injected;
        methods.append(&mut changes.existing);
        Injection { patch, outcome, methods, warnings: changes.warnings }
    }

    /// The operations on the pod as a whole, its label and volumes, and then those on containers.
    fn patch(&self, changes: &Changes, expiration: TokenExpiration) -> Patch {
        let mut operations = Operations::default();
        if changes.injected.contains(&Method::PodIdentity) && self.pod.label(names::POD_IDENTITY).is_none() {
            operations.add_member("/metadata/labels", self.pod.has_labels(), names::POD_IDENTITY, "enabled");
        }
        let volumes = [
            (changes.needs_pod_identity_volume, &self.tokens.pod_identity),
            (changes.needs_web_identity_volume, &self.tokens.web_identity),
        ];
        let volumes = volumes.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, token)| token);
        let push = |json: &mut String, token: &Token<'_>| token.push_volume(json, expiration);
        operations.append(format_args!("/spec/volumes"), self.pod.has_volumes(), volumes, push);
        operations.extend(&changes.containers);
        operations.into_patch()
    }

    /// Returns the lifetime of tokens: that of the pod's annotation, the service account's, the settings', or a random one.
    fn expiration(&self, random: u32, warnings: &mut Vec<Warning>) -> TokenExpiration {
        let key = &self.prepared.token_expiration;
        let mut unused = Vec::new();
        let of_pod =
            self.pod.annotation(key).and_then(|text| service_account::expiration(key, text, &mut unused));
        warnings.extend(unused.into_iter().map(|reason| Warning { container: None, reason }));
        of_pod
            .or(self.facts.settings.token_expiration)
            .or(self.prepared.settings.token_expiration)
            .unwrap_or_else(|| TokenExpiration::spread(random))
    }
}

/// Appends an item of a container's `env`.
fn push_variable(json: &mut String, (name, value): (&'static str, Cow<'_, str>)) {
    json.push_str(r#"{"name":""#);
    json.push_str(name);
    json.push_str(r#"","value":"#);
    push_string(json, &literal(&value));
    json.push('}');
}

#[cfg(test)]
mod tests;
