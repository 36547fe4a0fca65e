//! Messages about failed steps and invalid files.

use pod_identity_local::sample::SAMPLE;

use super::{local, ran, temporary_file};

#[tokio::test]
async fn every_fault_prints_code_cause_and_fix() {
    let trust = ("role_trust_refused", 2, "STS does not say why; the local one does: ");
    let breakages = [
        ("no-tag-session", trust, "may not use sts:TagSession"),
        ("wrong-namespace", trust, "to match \"some-other-namespace\" and the request has \"default\""),
        ("trust-names-other-account", trust, "999988887777"),
        ("expired-token", ("token_expired", 0, "the token expired 36"), ""),
        ("wrong-audience", ("token_audience_wrong", 0, "\"sts.amazonaws.com\""), ""),
        ("no-association", ("association_not_found", 1, "no association for service account app"), ""),
    ];
    for (breakage, (code, links, cause), more) in breakages {
        for mode in [&["--once"][..], &["--once", "--self-managed"]] {
            let run = ran(local(&[&["run", "--break", breakage], mode].concat())).await;
            assert_eq!(run.code, Some(1), "{breakage}: {run:#?}");
            let error = format!("error[{code}]: ");
            for words in [&*error, "cause: ", "fix:   ", cause, more] {
                assert!(run.stderr.contains(words), "{breakage}: no {words:?} in {run:#?}");
            }
            let held = run.stdout.lines().filter(|line| line.starts_with("ok  ")).count();
            assert_eq!(held, links, "{breakage}: {run:#?}");
            assert!(!run.stdout.contains("assumed-role"), "{breakage}: {run:#?}");
        }
    }
    let help = ran(local(&["run", "--help"])).await.stdout;
    let listed = help.split("--break <WHERE>").nth(1).unwrap().split("--output").next().unwrap();
    let listed: Vec<&str> =
        listed.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split(':').next()).collect();
    let tested: Vec<&str> = breakages.iter().map(|row| row.0).collect();
    assert!(listed.iter().all(|name| tested.contains(name)) && listed.len() == tested.len(), "{listed:?}");
}

#[tokio::test]
async fn fix_matches_the_reason_of_the_denial() {
    for (breakage, fixes) in [
        (
            "no-tag-session",
            ["Add sts:TagSession to the Action of statement 1 of the role's trust policy."; 2],
        ),
        (
            "wrong-namespace",
            ["Make the condition aws:RequestTag/kubernetes-namespace of statement 1 accept \"default\", or run the \
              pod where it holds."; 2],
        ),
        (
            "trust-names-other-account",
            [
                "Let a statement of the role's trust policy name pods.eks.amazonaws.com as Principal.",
                "Let a statement of the role's trust policy name \
                 arn:aws:iam::111122223333:role/pod-identity-auth as Principal.",
            ],
        ),
        ("expired-token", ["Read the token file again before each request"; 2]),
        ("wrong-audience", ["Project the token with audience pods.eks.amazonaws.com and no other."; 2]),
        ("no-association", ["Create an association for this cluster, namespace and service account."; 2]),
    ] {
        for (mode, fix) in [&["--once"][..], &["--once", "--self-managed"]].into_iter().zip(fixes) {
            let run = ran(local(&[&["run", "--break", breakage], mode].concat())).await;
            assert!(run.stderr.contains(&format!("\n  fix:   {fix}")), "{breakage} {mode:?}: {run:#?}");
        }
    }
    let of_app = "Service: pods.eks.amazonaws.com}";
    let auth = "Principal: {AWS: \"arn:aws:iam::111122223333:role/pod-identity-auth\"}";
    let service = format!("Effect: Allow\n          Principal: {{{of_app}");
    let without_permissions = SAMPLE.split("    permissions:").next().unwrap().to_owned()
        + "\n# For IRSA"
        + SAMPLE.split("\n# For IRSA").nth(1).unwrap();
    for (text, mode, fix) in [
        (
            SAMPLE.replace(&service, &service.replace("Allow", "Deny")),
            &["--once"][..],
            "Take statement 1 out of the role's trust policy, or narrow it: it denies sts:AssumeRole.",
        ),
        (
            without_permissions.replace(auth, "Principal: {AWS: \"111122223333\"}"),
            &["--once", "--self-managed"],
            "Let an identity policy of arn:aws:iam::111122223333:role/pod-identity-auth allow sts:AssumeRole on \
             arn:aws:iam::111122223333:role/app.",
        ),
    ] {
        let file = temporary_file(&text);
        let run = ran(local(&[&["run", "-f", file.path().to_str().unwrap()], mode].concat())).await;
        assert!(run.stderr.contains(&format!("\n  fix:   {fix}")), "{run:#?}");
    }
}

#[tokio::test]
async fn refuses_a_fault_without_an_effect() {
    let untagged = temporary_file(&format!("{SAMPLE}    disableSessionTags: true\n"));
    let untagged = ["-f", untagged.path().to_str().unwrap()];
    let nobody = ["--service-account", "nobody"];
    for (breakage, pod, words) in [
        ("no-tag-session", nobody, "service account nobody in namespace default has no association"),
        ("wrong-namespace", nobody, "has no association"),
        ("trust-names-other-account", nobody, "has no association"),
        ("no-association", nobody, "has no association"),
        ("no-tag-session", untagged, "has disableSessionTags"),
    ] {
        let run = ran(local(&[&["run", "--once", "--break", breakage], &pod[..]].concat())).await;
        assert_eq!((run.code, &*run.stdout), (Some(1), ""), "{run:#?}");
        let cause = format!("cause: --break {breakage} would change nothing: ");
        for words in ["error[break_without_effect]", &*cause, words, "fix:   Choose a pod "] {
            assert!(run.stderr.contains(words), "{breakage}: no {words:?} in {run:#?}");
        }
    }
    for (breakage, pod, code) in [
        ("expired-token", nobody, "token_expired"),
        ("wrong-audience", nobody, "token_audience_wrong"),
        ("wrong-namespace", untagged, "role_trust_refused"),
        ("trust-names-other-account", untagged, "role_trust_refused"),
    ] {
        let run = ran(local(&[&["run", "--once", "--break", breakage], &pod[..]].concat())).await;
        assert_eq!(run.code, Some(1), "{breakage}: {run:#?}");
        assert!(run.stderr.contains(&format!("error[{code}]")), "{breakage}: {run:#?}");
    }
}

#[tokio::test]
async fn prints_a_trust_line_for_each_chained_role() {
    let target = "  - arn: arn:aws:iam::111122223333:role/target\n    trust: {Statement: {Effect: Allow, Principal: \
                  {AWS: \"arn:aws:iam::111122223333:role/app\"}, Action: \"sts:*\"}}\nassociations:";
    let chained = SAMPLE
        .replace("\nroles:\n", "\nroles:\n@")
        .replace('@', target.strip_suffix("associations:").unwrap());
    let file =
        temporary_file(&format!("{chained}    targetRoleArn: arn:aws:iam::111122223333:role/target\n"));
    let run = ran(local(&["run", "--once", "-f", file.path().to_str().unwrap()])).await;
    assert_eq!(run.code, Some(0), "{run:#?}");
    let mut lines = run.stdout.lines().skip_while(|line| !line.starts_with("ok  trust"));
    let words = "the role's trust policy allows pods.eks.amazonaws.com sts:AssumeRole and sts:TagSession";
    assert!(lines.next().unwrap().ends_with(words), "{run:#?}");
    let words = "and the target role's allows arn:aws:sts::111122223333:assumed-role/app/eks-laptop-app-1-";
    assert!(lines.next().unwrap().trim_start().starts_with(words), "{run:#?}");
}

#[tokio::test]
async fn unknown_cluster_error_lists_the_declared_clusters() {
    let run = ran(local(&["run", "--once", "--cluster", "foo"])).await;
    assert_eq!((run.code, &*run.stdout), (Some(1), ""), "{run:#?}");
    assert!(run.stderr.contains("cause: the file declares no cluster foo (it has: laptop)"), "{run:#?}");
}

#[tokio::test]
async fn fault_applies_to_the_selected_pod() {
    let second = SAMPLE.replace("role/app\n    trust:", "role/second\n    trust:").replace(
        "associations:\n",
        "associations:\n  - {clusterName: laptop, namespace: default, serviceAccount: other, roleArn: \
         \"arn:aws:iam::111122223333:role/pod-identity-auth\"}\n",
    );
    let second = second.replace(
        "roleArn: arn:aws:iam::111122223333:role/app",
        "roleArn: arn:aws:iam::111122223333:role/second",
    );
    let file = temporary_file(&second);
    let file = file.path().to_str().unwrap();
    let pod = ["run", "--once", "-f", file, "--service-account", "app"];
    assert_eq!(ran(local(&pod)).await.code, Some(0));
    let run = ran(local(&[&pod[..], &["--break", "no-tag-session"]].concat())).await;
    assert!(run.stderr.contains("error[role_trust_refused]"), "{run:#?}");
}

#[tokio::test]
async fn invalid_file_error_has_name_place_and_fix() {
    let arn = "- arn: arn:aws:iam::111122223333:role/app\n";
    for (from, to, place) in [
        ("accounts:", "accunts:", "accunts"),
        (arn, "- arn: arn:aws:iam::111122223333:user/app\n", "roles[0].arn"),
        (
            "Effect: Allow\n          Principal: {Service: pods",
            "Effect: Permit\n          Principal: {Service: pods",
            "roles[0].trust",
        ),
        ("roleArn: arn:aws:iam", "rolArn: arn:aws:iam", "rolArn"),
        ("- clusterName: laptop", "- clusterName: other", "other"),
        (
            "roleArn: arn:aws:iam::111122223333:role/app",
            "roleArn: arn:aws:iam::111122223333:role/ap",
            "associations[0].roleArn",
        ),
        ("accounts: [", "accounts: [[", "line "),
    ] {
        let text = SAMPLE.replacen(from, to, 1);
        assert_ne!(text, SAMPLE, "{from}");
        let file = temporary_file(&text);
        let name = file.path().to_str().unwrap();
        let run = ran(local(&["run", "--once", "-f", name])).await;
        assert_eq!((run.code, &*run.stdout), (Some(1), ""), "{run:#?}");
        for words in ["error[file_invalid]", "cause: ", name, place, "fix:   "] {
            assert!(run.stderr.contains(words), "{from}: no {words:?} in {run:#?}");
        }
    }
    let run = ran(local(&["run", "--once", "-f", "/no/such/file"])).await;
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("/no/such/file: No such file"), "{run:#?}");
    assert!(run.stderr.contains("fix:   Check the path and its permissions."), "{run:#?}");
}
