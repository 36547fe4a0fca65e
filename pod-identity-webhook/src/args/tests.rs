use super::*;

fn read(flags: &str) -> Config {
    config(flags).unwrap_or_else(|error| panic!("{flags}: {error}"))
}

fn config(flags: &str) -> Result<Config, String> {
    let command_line = std::iter::once("/webhook").chain(flags.split_whitespace());
    parse(command_line).map_err(|error| error.to_string())?.config().map_err(|error| error.to_string())
}

#[test]
fn the_command_line_of_the_manifests_of_aws_is_taken() {
    let config = read(
        "--in-cluster=false --namespace=default --service-name=pod-identity-webhook \
         --annotation-prefix=eks.amazonaws.com --token-audience=sts.amazonaws.com --logtostderr",
    );
    let files = Certificate::Files(CertificateFiles {
        certificate: "/etc/webhook/certs/tls.crt".into(),
        key: "/etc/webhook/certs/tls.key".into(),
    });
    assert_eq!((config.namespace.as_str(), config.certificate), ("default", files));
    assert_eq!((config.port, config.metrics_port), (443, 9999));
    assert_eq!(config.settings, Settings::default());
    assert_eq!(config.without_effect, [""; 0]);
}

#[test]
fn without_flags_it_is_as_with_the_defaults_of_aws() {
    let config = read("");
    let (name, eks) = ("pod-identity-webhook".to_owned(), "eks");
    let certificate = SelfManagedCertificate {
        secret: name.clone(),
        service: name.clone(),
        configuration: name,
        lifetime: Duration::from_secs(90 * 24 * 60 * 60),
        wait: Duration::from_secs(60),
    };
    assert_eq!(config.certificate, Certificate::SelfManaged(certificate));
    assert_eq!((config.namespace.as_str(), config.watch_config_map, config.identities), (eks, false, None));
    assert_eq!(config.settings, Settings::default());
    // AWS's default, given as a flag, is spread as it is without the flag.
    assert_eq!(read("--token-expiration=86400").settings.token_expiration, None);
}

#[test]
fn the_flags_of_go_are_read_as_go_reads_them() {
    for (flags, verbosity) in
        [("-v=2", 2), ("-v 2", 2), ("-v2", 2), ("--v=2", 2), ("--v 2", 2), ("-v=1 -v=2", 2)]
    {
        let args = parse(std::iter::once("/webhook").chain(flags.split_whitespace())).unwrap();
        assert_eq!(args.verbosity, verbosity, "{flags}");
    }
    for (flags, on) in [
        ("--sts-regional-endpoint", true),
        ("--sts-regional-endpoint=T", true),
        ("--sts-regional-endpoint=0", false),
        ("--sts-regional-endpoint=true --sts-regional-endpoint=false", false),
    ] {
        assert_eq!(read(flags).settings.regional_sts, on, "{flags}");
    }
    for wrong in ["--sts-regional-endpoint=yes", "--sts-regional-endpoint true", "-v=high", "--no-such-flag"]
    {
        assert!(config(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn flags_without_effect_are_taken_and_named() {
    let config = read(
        "--resync-period=60s --service-account-lookup-grace-period 100ms --alsologtostderr --logtostderr=true \
         --skip_headers=false --stderrthreshold=2 --log_file_max_size 1800 --enable-debugging-handlers=false --pod-name a",
    );
    let named = [
        "resync-period",
        "service-account-lookup-grace-period",
        "pod-name",
        "alsologtostderr",
        "log_file_max_size",
        "stderrthreshold",
    ];
    assert_eq!(config.without_effect, named);
    assert_eq!(read("--logtostderr=false").without_effect, ["logtostderr"]);
}

#[test]
fn every_flag_about_what_is_injected_arrives_there() {
    let config = read(
        "--annotation-prefix=irsa.example.com --token-audience=a --token-mount-path=/b --token-expiration=10 \
         --aws-default-region=cn-north-1 --sts-regional-endpoint --compose-role-arn --aws-account-id=111122223333 \
         --watch-config-map --watch-container-credentials-config=/c.json --container-credentials-audience=d \
         --container-credentials-token-mount-path=/e --container-credentials-token-volume-name=f \
         --container-credentials-token-path=g/h --container-credentials-full-uri=http://[fd00:ec2::23]/v1/credentials \
         --tls-min-version=VersionTLS13 --kubeconfig=/i --kube-api=https://j --associations=/k --cluster-name=demo \
         --service-account-read=cache",
    );
    let expected = Settings {
        annotation_prefix: "irsa.example.com".to_owned(),
        pod_identity: TokenProjection {
            audience: "d".to_owned(),
            volume: "f".to_owned(),
            mount_path: "/e".to_owned(),
            file: "g/h".to_owned(),
        },
        full_uri: "http://[fd00:ec2::23]/v1/credentials".to_owned(),
        web_identity: TokenProjection {
            audience: "a".to_owned(),
            volume: "aws-iam-token".to_owned(),
            mount_path: "/b".to_owned(),
            file: "token".to_owned(),
        },
        token_expiration: Some(TokenExpiration::nearest(600)),
        region: Some("cn-north-1".to_owned()),
        regional_sts: true,
        bare_roles: Some(("aws-cn".parse().unwrap(), "111122223333".parse().unwrap())),
    };
    assert_eq!(config.settings, expected);
    assert!(config.watch_config_map);
    assert_eq!((config.identities, config.tls), (Some("/c.json".into()), TlsVersion::V1_3));
    let associations = Associations { file: "/k".into(), cluster: "demo".parse().unwrap() };
    assert_eq!(config.associations, Some(associations));
    assert_eq!((config.account_read, read("").account_read), (AccountRead::Cache, AccountRead::Fresh));
    let api_server = ApiServer { kubeconfig: Some("/i".into()), url: Some("https://j".to_owned()) };
    assert_eq!(config.api_server, api_server);
}

#[test]
fn an_optional_path_or_url_that_is_empty_is_as_good_as_not_given() {
    for flag in [
        "--kubeconfig=",
        "--kube-api=",
        "--watch-container-credentials-config=",
        "--associations=",
        "--aws-default-region=",
    ] {
        assert_eq!(read(flag), read(""), "{flag}");
        // Go's other form of the same; an argument of its own, which a test's flags cannot have.
        let apart = parse(["/webhook", flag.trim_end_matches('='), ""]).unwrap().config().unwrap();
        assert_eq!(apart, read(""), "{flag}");
    }
    // The last counts, also where it takes back what was before.
    assert_eq!(read("--kubeconfig=/i --kubeconfig=").api_server, ApiServer::default());
}

#[test]
fn what_pods_could_not_start_with_is_refused_by_name() {
    for (flags, named) in [
        ("--annotation-prefix=", "--annotation-prefix"),
        ("--annotation-prefix=EKS.amazonaws.com", "--annotation-prefix"),
        ("--annotation-prefix=eks.amazonaws.com/", "--annotation-prefix"),
        ("--token-audience=", "--token-audience"),
        ("--container-credentials-audience=", "--container-credentials-audience"),
        ("--token-mount-path=var/run", "--token-mount-path"),
        ("--token-mount-path=/", "--token-mount-path"),
        ("--token-mount-path=/a/../b", "--token-mount-path"),
        ("--container-credentials-token-mount-path=C:/a", "--container-credentials-token-mount-path"),
        ("--token-mount-path=/a --container-credentials-token-mount-path=/a/", "places of their own"),
        ("--container-credentials-token-path=/token", "--container-credentials-token-path"),
        ("--container-credentials-token-path=../token", "--container-credentials-token-path"),
        ("--container-credentials-token-volume-name=Token", "--container-credentials-token-volume-name"),
        ("--container-credentials-token-volume-name=aws-iam-token", "another name"),
        ("--compose-role-arn", "--aws-account-id"),
        ("--aws-account-id=111122223333", "--compose-role-arn"),
        ("--aws-partition=aws-cn", "--compose-role-arn"),
        ("--compose-role-arn --aws-account-id=1", "--aws-account-id"),
        ("--compose-role-arn --aws-account-id=111122223333 --aws-partition=azure", "--aws-partition"),
        ("--associations=/a", "--cluster-name"),
        ("--service-account-read=watch", "--service-account-read"),
        ("--cluster-name=demo", "--associations"),
        ("--tls-min-version=1.2", "--tls-min-version"),
        ("--token-expiration=1d", "--token-expiration"),
    ] {
        let error = config(flags).unwrap_err();
        assert!(error.contains(named), "{flags}: {error:?} does not name {named:?}");
    }
}

#[test]
fn a_uri_that_sdks_do_not_take_is_refused() {
    for (uri, taken) in [
        ("http://169.254.170.23/v1/credentials", true),
        ("http://[fd00:ec2::23]/v1/credentials", true),
        ("http://169.254.170.2/x", true),
        ("http://127.0.0.1:8080/x", true),
        ("http://[::1]:8080/x", true),
        ("http://localhost/x", true),
        ("https://agent.example.com/x", true),
        ("http://agent.example.com/x", false),
        ("http://169.254.170.23.example.com/x", false),
        ("http://169.254.170.23@example.com/x", false),
        ("http://169.254.170.23:http/x", false),
        ("http://10.0.0.1/x", false),
        ("https:///x", false),
        ("https://user@example.com/x", false),
        ("169.254.170.23/x", false),
        ("", false),
    ] {
        let found = config(&format!("--container-credentials-full-uri={uri}"));
        assert_eq!(found.is_ok(), taken, "{uri}: {found:?}");
    }
}

#[test]
fn the_grammar_is_sound() {
    command().debug_assert();
}

#[test]
fn every_flag_is_in_its_page() {
    let page = include_str!("../../../docs/webhook.md");
    for flag in command().get_arguments().filter_map(Arg::get_long) {
        assert!(page.contains(&format!("`--{flag}`")), "docs/webhook.md does not name --{flag}");
    }
}

#[test]
fn a_certificate_that_ends_before_api_servers_know_the_next_one_is_refused() {
    for (flags, taken) in [
        ("--certificate-lifetime=36 --certificate-wait=1", true),
        ("--certificate-lifetime=35 --certificate-wait=1", false),
        ("--certificate-lifetime=389", false),
        ("--certificate-wait=0", false),
        ("--certificate-wait=4294967295", false),
        ("--certificate-wait=0 --in-cluster=false", true),
    ] {
        match config(flags) {
            Ok(_) => assert!(taken, "{flags}"),
            Err(error) => {
                assert!(!taken, "{flags}: {error}");
                assert!(error.contains("--certificate-lifetime") && error.contains("--certificate-wait"));
            }
        }
    }
}
