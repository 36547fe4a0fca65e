use super::*;

fn valid_config(flags: &str) -> Config {
    config(flags).unwrap_or_else(|error| panic!("{flags}: {error}"))
}

fn config(flags: &str) -> Result<Config, String> {
    let command_line = std::iter::once("/webhook").chain(flags.split_whitespace());
    parse(command_line).map_err(|error| error.to_string())?.config().map_err(|error| error.to_string())
}

#[test]
fn accepts_the_command_line_of_aws_manifests() {
    let config = valid_config(
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
fn defaults_are_those_of_aws() {
    let config = valid_config("");
    let (name, eks) = ("pod-identity-webhook".to_owned(), "eks");
    let certificate = SelfManagedCertificate {
        secret: name.clone(),
        service: name.clone(),
        configuration: name,
        lifetime: Duration::from_secs(90 * 24 * 60 * 60),
        wait: Duration::from_secs(60),
    };
    assert_eq!(config.certificate, Certificate::SelfManaged(certificate));
    assert_eq!(
        (config.namespace.as_str(), config.watch_config_map, config.pod_identity_file),
        (eks, false, None)
    );
    assert_eq!(config.settings, Settings::default());
    // AWS's default as an explicit value is spread too.
    assert_eq!(valid_config("--token-expiration=86400").settings.token_expiration, None);
}

#[test]
fn parses_flags_as_go_does() {
    for (flags, verbosity) in
        [("-v=2", 2), ("-v 2", 2), ("-v2", 2), ("--v=2", 2), ("--v 2", 2), ("-v=1 -v=2", 2)]
    {
        let args = parse(std::iter::once("/webhook").chain(flags.split_whitespace())).unwrap();
        assert_eq!(args.common.verbosity, verbosity, "{flags}");
    }
    for (flags, on) in [
        ("--sts-regional-endpoint", true),
        ("--sts-regional-endpoint=T", true),
        ("--sts-regional-endpoint=0", false),
        ("--sts-regional-endpoint=true --sts-regional-endpoint=false", false),
    ] {
        assert_eq!(valid_config(flags).settings.regional_sts, on, "{flags}");
    }
    for wrong in ["--sts-regional-endpoint=yes", "--sts-regional-endpoint true", "-v=high", "--no-such-flag"]
    {
        assert!(config(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn accepts_and_lists_flags_without_effect() {
    let config = valid_config(
        "--resync-period=60s --service-account-lookup-grace-period 100ms --alsologtostderr --logtostderr=true \
         --skip_headers=false --stderrthreshold=2 --log_file_max_size 1800 --enable-debugging-handlers=false",
    );
    let named = [
        "resync-period",
        "service-account-lookup-grace-period",
        "alsologtostderr",
        "log_file_max_size",
        "stderrthreshold",
    ];
    assert_eq!(config.without_effect, named);
    assert_eq!(valid_config("--logtostderr=false").without_effect, ["logtostderr"]);
}

#[test]
fn flags_set_the_settings_of_injection_and_lookup() {
    let config = valid_config(
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
    assert_eq!((config.pod_identity_file, config.tls), (Some("/c.json".into()), TlsVersion::V1_3));
    let associations = Associations { file: "/k".into(), cluster: "demo".parse().unwrap() };
    assert_eq!(config.associations, Some(associations));
    assert_eq!(
        (config.service_account_read, valid_config("").service_account_read),
        (ServiceAccountRead::Cache, ServiceAccountRead::Fresh)
    );
    let api_server = ApiServer { kubeconfig: Some("/i".into()), url: Some("https://j".to_owned()) };
    assert_eq!(config.api_server, api_server);
}

#[test]
fn an_empty_optional_value_means_that_the_flag_is_not_given() {
    for flag in [
        "--kubeconfig=",
        "--kube-api=",
        "--watch-container-credentials-config=",
        "--associations=",
        "--aws-default-region=",
    ] {
        assert_eq!(valid_config(flag), valid_config("--pod-name="), "{flag}");
        // Go's other form: the empty value is an argument of its own.
        let separate = parse(["/webhook", flag.trim_end_matches('='), ""]).unwrap().config().unwrap();
        assert_eq!(separate, valid_config("--pod-name="), "{flag}");
    }
    // The last value applies, even if it is empty.
    assert_eq!(valid_config("--kubeconfig=/i --kubeconfig=").api_server, ApiServer::default());
}

#[test]
fn names_the_flag_of_an_invalid_value() {
    for (flags, expected) in [
        ("--annotation-prefix=", "--annotation-prefix"),
        ("--annotation-prefix=EKS.amazonaws.com", "--annotation-prefix"),
        ("--annotation-prefix=eks.amazonaws.com/", "--annotation-prefix"),
        ("--token-audience=", "--token-audience"),
        ("--container-credentials-audience=", "--container-credentials-audience"),
        ("--token-mount-path=var/run", "--token-mount-path"),
        ("--token-mount-path=/", "--token-mount-path"),
        ("--token-mount-path=/a/../b", "--token-mount-path"),
        ("--container-credentials-token-mount-path=C:/a", "--container-credentials-token-mount-path"),
        ("--token-mount-path=/a --container-credentials-token-mount-path=/a/", "different paths"),
        ("--container-credentials-token-path=/token", "--container-credentials-token-path"),
        ("--container-credentials-token-path=../token", "--container-credentials-token-path"),
        ("--container-credentials-token-volume-name=Token", "--container-credentials-token-volume-name"),
        ("--container-credentials-token-volume-name=aws-iam-token", "a name other than"),
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
        assert!(error.contains(expected), "{flags}: {error:?} does not contain {expected:?}");
    }
}

#[test]
fn refuses_a_uri_that_sdks_refuse() {
    for (uri, accepted) in [
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
        assert_eq!(found.is_ok(), accepted, "{uri}: {found:?}");
    }
}

#[test]
fn the_command_line_definition_is_valid() {
    command().debug_assert();
}

#[test]
fn the_page_names_every_flag() {
    let page = include_str!("../../../docs/reference/webhook.md");
    let command = command();
    let of_report = command.find_subcommand("report").unwrap().get_arguments();
    let flags = command.get_arguments().chain(of_report).filter_map(Arg::get_long);
    for flag in flags.filter(|flag| *flag != REMOVED) {
        assert!(page.contains(&format!("`--{flag}`")), "docs/reference/webhook.md does not name --{flag}");
    }
}

#[test]
fn refuses_a_certificate_lifetime_that_is_too_short_for_a_rotation() {
    for (flags, accepted) in [
        ("--certificate-lifetime=36 --certificate-wait=1", true),
        ("--certificate-lifetime=35 --certificate-wait=1", false),
        ("--certificate-lifetime=389", false),
        ("--certificate-wait=0", false),
        ("--certificate-wait=4294967295", false),
        ("--certificate-wait=0 --in-cluster=false", true),
    ] {
        match config(flags) {
            Ok(_) => assert!(accepted, "{flags}"),
            Err(error) => {
                assert!(!accepted, "{flags}: {error}");
                assert!(error.contains("--certificate-lifetime") && error.contains("--certificate-wait"));
            }
        }
    }
}

#[test]
fn report_takes_its_interval_and_the_flags_that_decide_about_pods() {
    assert_eq!(valid_config("").report_interval, None);
    let plain = valid_config("report");
    assert_eq!(plain, Config { report_interval: Some(Duration::from_secs(300)), ..valid_config("") });
    assert_eq!(plain.service_account_read, ServiceAccountRead::Fresh);
    let flags = "--annotation-prefix=irsa.example.com --token-audience=a --token-mount-path=/b --watch-config-map \
         --watch-container-credentials-config=/c.json --container-credentials-audience=d --associations=/k \
         --cluster-name=demo --kubeconfig=/i --kube-api=https://j --namespace=n --metrics-port=1 --pod-name=p";
    let expected = Config { report_interval: Some(Duration::from_secs(30)), ..valid_config(flags) };
    assert_eq!(valid_config(&format!("report --interval=30 {flags}")), expected);
    assert_eq!(valid_config(&format!("report {flags} --interval 600 --interval 30")), expected);
    assert_eq!(valid_config("report --namespace=a --namespace=b").namespace, "b");
    let logs = parse(["/webhook", "report", "-v=2", "--log-format=json"]).unwrap();
    assert_eq!((logs.log_level(), logs.log_format()), (LogLevel::of_klog(2), LogFormat::Json));
    for wrong in
        ["report --interval=29", "report --port=1", "report --in-cluster", "report --interval=x", "reports"]
    {
        assert!(config(wrong).is_err(), "{wrong}");
    }
    for wrong in
        ["report --token-audience=", "report --associations=/k", "--service-account-read=fresh report"]
    {
        assert!(config(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_flag_of_the_reconciler_is_refused_with_the_subcommand_that_replaces_it() {
    for flags in [
        "--reconcile-interval=300",
        "--reconcile-interval 0",
        "--reconcile-interval",
        "--port=1 --reconcile-interval=1",
    ] {
        let error = config(flags).unwrap_err();
        assert!(error.contains("--reconcile-interval") && error.contains("report"), "{flags}: {error}");
    }
}
