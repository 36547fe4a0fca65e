//! Checks the entries of a file and builds the fixture.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use pod_identity_auth::store::AssociationFile;
use pod_identity_core::arn::{AccountId, RoleArn};
use pod_identity_core::trust::{Caller, Policy, TRUST_POLICY_LENGTH, TRUST_POLICY_LENGTH_MAX, UserArn};

use super::file::{CallerEntry, Document, Documents, File, PrincipalEntry, RoleEntry};
use super::{KnownCaller, OidcProvider, Role, SecretText, World, WorldError};
use crate::sts::{limits, random};
use crate::tags::Tags;

pub(super) fn world(file: File) -> Result<World, WorldError> {
    let limit = file.trust_policy_length.unwrap_or(TRUST_POLICY_LENGTH);
    if !(TRUST_POLICY_LENGTH..=TRUST_POLICY_LENGTH_MAX).contains(&limit) {
        return Err(WorldError::at(
            "trustPolicyLength",
            format!("{limit} is not between {TRUST_POLICY_LENGTH} and {TRUST_POLICY_LENGTH_MAX} characters"),
        ));
    }
    let mut world = World {
        accounts: BTreeSet::new(),
        callers: Vec::new(),
        roles: BTreeMap::new(),
        providers: Vec::new(),
        associations: AssociationFile { clusters: file.clusters, associations: file.associations },
    };
    for (index, account) in file.accounts.into_iter().enumerate() {
        let account: AccountId = parsed(&format!("accounts[{index}]"), &account)?;
        if !world.accounts.insert(account.clone()) {
            return Err(WorldError::at(
                format!("accounts[{index}]"),
                format!("{account} occurs twice: remove one"),
            ));
        }
    }
    for (index, entry) in file.roles.into_iter().enumerate() {
        let path = format!("roles[{index}]");
        let role = role(&path, entry, limit)?;
        declared(&world, &format!("{path}.arn"), role.arn.account())?;
        // IAM: a role's name is unique in its account, whatever its path and case.
        let same_name = world.roles.values().find(|other| {
            other.arn.account() == role.arn.account()
                && other.arn.name().eq_ignore_ascii_case(role.arn.name())
        });
        if let Some(other) = same_name {
            return Err(WorldError::at(
                format!("{path}.arn"),
                format!("{} has the same name as {}: rename one", role.arn, other.arn),
            ));
        }
        world.roles.insert(role.arn.clone(), role);
    }
    for (index, entry) in file.oidc_providers.into_iter().enumerate() {
        let path = format!("oidcProviders[{index}]");
        let provider = OidcProvider::build(&path, entry)?;
        declared(&world, &path, &provider.account)?;
        if world.provider(&provider.account, &provider.url).is_some() {
            return Err(WorldError::at(
                format!("{path}.url"),
                "the AWS account has this provider already: combine their clientIds",
            ));
        }
        world.providers.push(provider);
    }
    for (index, entry) in file.callers.into_iter().enumerate() {
        let path = format!("callers[{index}]");
        let caller = caller(&world, &path, entry)?;
        if world.callers.iter().any(|other| other.access_key_id == caller.access_key_id) {
            return Err(WorldError::at(
                format!("{path}.accessKeyId"),
                format!("{} occurs twice: every caller needs its own", caller.access_key_id),
            ));
        }
        world.callers.push(caller);
    }
    // The auth service makes the same check, but its error names another file.
    world.associations.table().map_err(|error| WorldError::at("", error))?;
    for (index, entry) in world.associations.associations.iter().enumerate() {
        let roles = [("roleArn", Some(&entry.role_arn)), ("targetRoleArn", entry.target_role_arn.as_ref())];
        for (member, role) in roles {
            let Some(role) = role.filter(|role| world.role(role).is_none()) else { continue };
            return Err(WorldError::at(
                format!("associations[{index}].{member}"),
                format!("{role} is not among roles: declare it there, or correct the association"),
            ));
        }
    }
    Ok(world)
}

fn parsed<T: FromStr<Err: Display>>(path: &str, text: &str) -> Result<T, WorldError> {
    text.parse().map_err(|error| WorldError::at(path, error))
}

fn declared(world: &World, path: &str, account: &AccountId) -> Result<(), WorldError> {
    if world.accounts.contains(account) {
        return Ok(());
    }
    Err(WorldError::at(path, format!("AWS account {account} is not among accounts: add it there")))
}

fn role(path: &str, entry: RoleEntry, limit: usize) -> Result<Role, WorldError> {
    let trust = entry.trust.0.and_then(|document| Policy::trust_of(&document, limit));
    let trust = trust.map_err(|error| WorldError::at(format!("{path}.trust"), error))?;
    let seconds = entry.max_session_duration.unwrap_or(3600);
    if !(3600..=43_200).contains(&seconds) {
        return Err(WorldError::at(
            format!("{path}.maxSessionDuration"),
            format!("{seconds} is not between 3600 and 43200 seconds"),
        ));
    }
    Ok(Role {
        arn: parsed(&format!("{path}.arn"), &entry.arn)?,
        trust,
        permissions: policies(&format!("{path}.permissions"), entry.permissions)?,
        max_session_duration: Duration::from_secs(seconds),
        tags: tags(&format!("{path}.tags"), entry.tags)?,
    })
}

fn policies(path: &str, documents: Option<Documents>) -> Result<Vec<Policy>, WorldError> {
    let read = |path: String, document: Document| {
        let policy = document.0.and_then(|document| Policy::identity_of(&document));
        policy.map_err(|error| WorldError::at(path, error))
    };
    match documents {
        None => Ok(Vec::new()),
        Some(Documents::One(document)) => Ok(vec![read(path.to_owned(), document)?]),
        Some(Documents::Many(documents)) => documents
            .into_iter()
            .enumerate()
            .map(|(index, document)| read(format!("{path}[{index}]"), document))
            .collect(),
    }
}

fn tags(path: &str, entries: BTreeMap<String, String>) -> Result<Tags, WorldError> {
    let mut tags = Tags::default();
    for (key, value) in entries {
        if !limits::is_tag_key(&key) || !limits::is_tag_value(&value) {
            return Err(WorldError::at(path, format!("{key:?} = {value:?} is not a valid tag of IAM")));
        }
        if tags.insert(&key, &value).is_some() {
            return Err(WorldError::at(path, format!("{key:?} occurs twice, and tag keys ignore case")));
        }
    }
    if tags.len() > limits::TAGS {
        return Err(WorldError::at(path, format!("{} tags, at most {} are allowed", tags.len(), limits::TAGS)));
    }
    Ok(tags)
}

fn caller(world: &World, path: &str, entry: CallerEntry) -> Result<KnownCaller, WorldError> {
    let id = entry.access_key_id;
    // STS API reference, Credentials: 16 to 128 characters of `\w`.
    if !(16..=128).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(WorldError::at(
            format!("{path}.accessKeyId"),
            format!("{id:?} does not have 16 to 128 letters, digits or '_'"),
        ));
    }
    if entry.secret_access_key.as_deref().is_some_and(str::is_empty)
        || entry.session_token.as_deref().is_some_and(str::is_empty)
    {
        return Err(WorldError::at(path, "a secret is empty: remove it to get a random one"));
    }
    let mut known = KnownCaller {
        access_key_id: id,
        secret_access_key: SecretText::new(entry.secret_access_key.unwrap_or_else(random::secret)),
        session_token: entry.session_token.map(SecretText::new),
        caller: Caller::Service { name: String::new() },
        permissions: Vec::new(),
        tags: Tags::default(),
        transitive_tag_keys: Vec::new(),
        source_account: None,
        source_arn: None,
    };
    principal(world, &format!("{path}.principal"), entry.principal, &mut known)?;
    Ok(known)
}

fn principal(
    world: &World,
    path: &str,
    entry: PrincipalEntry,
    known: &mut KnownCaller,
) -> Result<(), WorldError> {
    let PrincipalEntry { service, role, user, .. } = &entry;
    // The members that only one kind of principal may have.
    let of_service = entry.source_account.is_some() || entry.source_arn.is_some();
    let of_role = entry.session_name.is_some() || entry.tags.is_some() || entry.transitive_tag_keys.is_some();
    let of_user = entry.permissions.is_some();
    match (service, role, user) {
        (Some(name), None, None) if !of_role && !of_user => {
            known.caller = Caller::Service { name: name.clone() };
            if !name.contains('.') {
                return Err(WorldError::at(
                    format!("{path}.service"),
                    format!("{name:?} is not a service principal such as pods.eks.amazonaws.com"),
                ));
            }
            if let Some(account) = &entry.source_account {
                parsed::<AccountId>(&format!("{path}.sourceAccount"), account)?;
            }
            known.source_account = entry.source_account;
            known.source_arn = entry.source_arn;
        }
        (None, Some(role), None) if !of_service && !of_user => {
            let role: RoleArn = parsed(&format!("{path}.role"), role)?;
            if world.role(&role).is_none() {
                return Err(WorldError::at(
                    format!("{path}.role"),
                    format!("{role} is not among roles: declare it there with its permissions"),
                ));
            }
            let name = entry.session_name.unwrap_or_default();
            if !limits::is_session_name(&name) {
                return Err(WorldError::at(
                    format!("{path}.sessionName"),
                    format!("{name:?} does not have 2 to 64 letters, digits or any of _+=,.@-"),
                ));
            }
            known.tags = tags(&format!("{path}.tags"), entry.tags.unwrap_or_default())?;
            for key in entry.transitive_tag_keys.unwrap_or_default() {
                let Some(key) = known.tags.key(&key) else {
                    return Err(WorldError::at(
                        format!("{path}.transitiveTagKeys"),
                        format!("{key:?} is not a key of tags"),
                    ));
                };
                known.transitive_tag_keys.push(key.to_owned());
            }
            known.caller = Caller::Session { role, name };
        }
        (None, None, Some(user)) if !of_service && !of_role => {
            let user: UserArn = parsed(&format!("{path}.user"), user)?;
            declared(world, &format!("{path}.user"), user.account())?;
            known.caller = Caller::User(user);
            known.permissions = policies(&format!("{path}.permissions"), entry.permissions)?;
        }
        _ => {
            return Err(WorldError::at(
                path,
                "give one of: service (with sourceAccount, sourceArn); role (with sessionName, tags, \
                 transitiveTagKeys); user (with permissions)",
            ));
        }
    }
    Ok(())
}
