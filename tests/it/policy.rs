//! Admission policies of a world: what somebody else may forbid.

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::Secret,
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::world::{World, eventually};

/// A policy that is in force.
pub(crate) struct Policy(String);

/// Has the API server refuse each Secret of the world for which this CEL expression is true, with this sentence.
pub(crate) async fn refuse(world: &World, expression: &str, message: &str) -> Policy {
    // Beside what the test is about, something to see by that the policy is in force.
    let trial = format!("trial-{:08x}", rand::random::<u32>());
    let validations = [
        json!({"expression": format!("!({expression})"), "message": message}),
        json!({"expression": format!("object.metadata.name != '{trial}'"), "message": "in force"}),
    ];
    let policy = create(world, json!(validations)).await;
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": trial}})).unwrap();
    eventually("the policy is in force", async || match dry_run(world, &secret).await {
        Err(kube::Error::Api(status)) if status.message.contains("in force") => Ok(()),
        other => Err(format!("{:?}", other.map(drop))),
    })
    .await;
    policy
}

/// Makes a policy of these validations for what is created and updated of the Secrets of the world. It comes into force by and by.
pub(crate) async fn create(world: &World, validations: Value) -> Policy {
    let name = format!("{}-{:06x}", world.name, rand::random::<u32>() & 0xff_ffff);
    let policy = json!({
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]},
            ]},
            "validations": validations,
        },
    });
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": world.name}});
    let binding = json!({
        "metadata": {"name": name},
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": selector},
        },
    });
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(policy).unwrap();
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(binding).unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &policy).await.unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &binding).await.unwrap();
    Policy(name)
}

/// Asks the API server whether it would take a Secret.
pub(crate) async fn dry_run(world: &World, secret: &Secret) -> kube::Result<Secret> {
    world.secrets().create(&PostParams { dry_run: true, ..PostParams::default() }, secret).await
}

impl Policy {
    /// Takes the policy away, without waiting until that is so.
    pub(crate) async fn lift(self, world: &World) {
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.client.clone());
        bindings.delete(&self.0, &DeleteParams::default()).await.unwrap();
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.client.clone());
        policies.delete(&self.0, &DeleteParams::default()).await.unwrap();
    }
}
