//! A review from an API server: the pod of a Deployment, with two containers and the fields that defaults and
//! controllers add.

use serde_json::{Value, json};

/// The namespace and the service account of the pod.
pub const SERVICE_ACCOUNT: (&str, &str) = ("shop", "cart");

/// Returns the body of a review, about 7 kB.
pub fn review() -> Vec<u8> {
    review_of(pod())
}

/// Returns the same review of a pod that has the annotation of `kubectl apply`: the pod's JSON in a string, with an escape for
/// each quote.
pub fn review_after_kubectl_apply() -> Vec<u8> {
    let mut pod = pod();
    let last_applied = pod.to_string();
    pod["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!(last_applied);
    review_of(pod)
}

fn review_of(pod: Value) -> Vec<u8> {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "0d8f3a52-7a6b-4f1e-9d0c-3f1f5a0e6b7d",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": SERVICE_ACCOUNT.0,
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "8a1c1a0e-6f0a-4f0e-8a53-5a0d9e7a2f11",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": ["JTI=6e0c1b0e-1f4b-4c55-8f0e-0a54b3f1c5a2"]},
            },
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
    .to_string()
    .into_bytes()
}

fn pod() -> Value {
    json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "generateName": "cart-7d9c5b6f4c-",
            "namespace": SERVICE_ACCOUNT.0,
            "creationTimestamp": null,
            "labels": {
                "app.kubernetes.io/component": "backend",
                "app.kubernetes.io/instance": "cart",
                "app.kubernetes.io/name": "cart",
                "app.kubernetes.io/version": "4.12.3",
                "pod-template-hash": "7d9c5b6f4c",
                "team": "checkout",
            },
            "annotations": {
                "checksum/config": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "kubectl.kubernetes.io/restartedAt": "2026-11-20T08:15:30Z",
                "prometheus.io/port": "9102",
                "prometheus.io/scrape": "true",
            },
            "ownerReferences": [{
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "cart-7d9c5b6f4c",
                "uid": "3f7f0b5e-8e0c-4f83-9a63-1f2d5b8c7a90",
                "controller": true,
                "blockOwnerDeletion": true,
            }],
            "managedFields": [managed()],
        },
        "spec": {
            "volumes": [
                {"name": "config", "configMap": {"name": "cart-config", "defaultMode": 420}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
                {"name": "kube-api-access-x7k2p", "projected": {"defaultMode": 420, "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{
                        "path": "namespace",
                        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                    }]}},
                ]}},
            ],
            "containers": [container("app", 8080), container("exporter", 9102)],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": SERVICE_ACCOUNT.1,
            "serviceAccount": SERVICE_ACCOUNT.1,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                "weight": 100,
                "podAffinityTerm": {
                    "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "cart"}},
                    "topologyKey": "topology.kubernetes.io/zone",
                },
            }]}},
            "schedulerName": "default-scheduler",
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ],
            "priority": 0,
            "enableServiceLinks": true,
            "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {},
    })
}

fn container(name: &str, port: u16) -> Value {
    let probe = |path: &str| {
        json!({
            "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
            "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
        })
    };
    json!({
        "name": name,
        "image": format!("registry.example.com/checkout/{name}:4.12.3"),
        "args": ["--config=/etc/cart/config.yaml", format!("--listen=:{port}")],
        "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}],
        "env": [
            {"name": "LOG_LEVEL", "value": "info"},
            {"name": "BUCKET", "value": "checkout-receipts-eu-west-1"},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": "DATABASE_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "cart-database", "key": "password"}}},
        ],
        "resources": {
            "limits": {"cpu": "500m", "memory": "512Mi"},
            "requests": {"cpu": "100m", "memory": "256Mi"},
        },
        "volumeMounts": [
            {"name": "config", "readOnly": true, "mountPath": "/etc/cart"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "kube-api-access-x7k2p", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
        ],
        "livenessProbe": probe("/healthz"),
        "readinessProbe": probe("/readyz"),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
        },
    })
}

/// Returns the fields of the pod that the ReplicaSet controller manages.
fn managed() -> Value {
    let container = json!({
        ".": {}, "f:args": {}, "f:env": {
            ".": {},
            "k:{\"name\":\"LOG_LEVEL\"}": {".": {}, "f:name": {}, "f:value": {}},
            "k:{\"name\":\"BUCKET\"}": {".": {}, "f:name": {}, "f:value": {}},
            "k:{\"name\":\"POD_NAME\"}": {".": {}, "f:name": {}, "f:valueFrom": {".": {}, "f:fieldRef": {}}},
        },
        "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:livenessProbe": {".": {}, "f:httpGet": {}},
        "f:ports": {".": {}, "k:{\"containerPort\":8080,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
        "f:resources": {".": {}, "f:limits": {".": {}, "f:cpu": {}, "f:memory": {}}},
        "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
        "f:volumeMounts": {".": {}, "k:{\"mountPath\":\"/etc/cart\"}": {".": {}, "f:mountPath": {}, "f:name": {}}},
    });
    json!({
        "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
        "time": "2026-11-22T09:14:07Z", "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {
                "f:annotations": {".": {}, "f:checksum/config": {}, "f:prometheus.io/port": {}},
                "f:generateName": {}, "f:labels": {".": {}, "f:app.kubernetes.io/name": {}, "f:pod-template-hash": {}},
                "f:ownerReferences": {".": {}, "k:{\"uid\":\"3f7f0b5e-8e0c-4f83-9a63-1f2d5b8c7a90\"}": {}},
            },
            "f:spec": {
                "f:affinity": {},
                "f:containers": {"k:{\"name\":\"app\"}": container.clone(), "k:{\"name\":\"exporter\"}": container},
                "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
                "f:serviceAccount": {}, "f:serviceAccountName": {}, "f:terminationGracePeriodSeconds": {},
                "f:volumes": {".": {}, "k:{\"name\":\"config\"}": {".": {}, "f:configMap": {}, "f:name": {}}},
            },
        },
    })
}
