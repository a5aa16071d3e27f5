package main

import (
	"slices"

	"github.com/ovh/okms-sdk-go"
	"github.com/ovh/okms-sdk-go/types"
)

// The codes that the SDK's own tests name.
const (
	secretNotFound okms.ErrorCode = 17125377
	domainNotFound okms.ErrorCode = 16994305
)

type object = map[string]any

// kv2 tells the story of one secret in the KV2 family. Its path has slashes, which the SDK sends as %2F.
func (r *run) kv2() {
	const path = "conformance/kv2/db"

	r.kv2Config()
	r.kv2Write(path)
	r.kv2States(path)
	r.kv2Metadata(path)

	r.works("DeleteSecretMetadata", r.client.DeleteSecretMetadata(r.ctx, r.okmsID, path))
	_, err := r.client.GetSecretRequest(r.ctx, r.okmsID, path, nil)
	r.refused("GetSecretRequest after the deletion", err, 404, secretNotFound)
}

func (r *run) kv2Config() {
	body := types.PostConfigRequest{MaxVersions: ptr(uint32(24)), DeleteVersionAfter: ptr("1d")}
	r.works("PostSecretConfig", r.client.PostSecretConfig(r.ctx, r.okmsID, body))
	config, err := r.client.GetSecretConfig(r.ctx, r.okmsID)
	if r.works("GetSecretConfig", err) {
		r.equal("GetSecretConfig: max_versions", val(config.Data.MaxVersions), uint32(24))
		r.equal("GetSecretConfig: delete_version_after", val(config.Data.DeleteVersionAfter), "1d")
		r.equal("GetSecretConfig: cas_required", val(config.Data.CasRequired), false)
	}
	shared, err := r.client.GetSecretConfigV2(r.ctx, r.okmsID)
	if r.works("GetSecretConfigV2", err) {
		r.equal("GetSecretConfigV2 shows what KV2 set", val(shared.DeactivateVersionAfter), "1d")
	}
	restored, err := r.client.PutSecretConfigV2(r.ctx, r.okmsID, types.PutSecretConfigV2Request{
		MaxVersions: ptr(uint32(10)), DeactivateVersionAfter: ptr("0s"), CasRequired: ptr(false),
	})
	if r.works("PutSecretConfigV2", err) {
		r.equal("PutSecretConfigV2: maxVersions", val(restored.MaxVersions), uint32(10))
	}
}

func (r *run) kv2Write(path string) {
	body := types.PostSecretRequest{
		Data:    object{"login": "admin", "address": object{"ip": "1.1.1.1"}, "ports": []any{"30", "31"}},
		Options: &types.PostSecretOptions{Cas: ptr(uint32(0))},
	}
	created, err := r.client.PostSecretRequest(r.ctx, r.okmsID, path, body)
	if r.works("PostSecretRequest", err) {
		r.equal("PostSecretRequest: version", val(created.Data.Version), uint32(1))
		r.equal("PostSecretRequest: request_id", val(created.RequestId) != "", true)
	}
	_, err = r.client.PostSecretRequest(r.ctx, r.okmsID, path, body)
	r.refused("PostSecretRequest with a wrong cas", err, 400, 0)

	read, err := r.client.GetSecretRequest(r.ctx, r.okmsID, path, nil)
	if r.works("GetSecretRequest", err) {
		r.equal("GetSecretRequest: data", read.Data.Data, body.Data)
		r.equal("GetSecretRequest: deletion_time", *read.Data.Metadata.DeletionTime, "")
		r.equal("GetSecretRequest: destroyed", *read.Data.Metadata.Destroyed, false)
	}

	patch := types.PostSecretRequest{Data: object{"login": nil, "user": "shop"}}
	patched, err := r.client.PatchSecretRequest(r.ctx, r.okmsID, path, patch)
	if r.works("PatchSecretRequest", err) {
		r.equal("PatchSecretRequest: version", val(patched.Data.Version), uint32(2))
	}
	read, err = r.client.GetSecretRequest(r.ctx, r.okmsID, path, ptr(uint32(2)))
	if r.works("GetSecretRequest of a version", err) {
		want := object{"user": "shop", "address": object{"ip": "1.1.1.1"}, "ports": []any{"30", "31"}}
		r.equal("GetSecretRequest: patched data", read.Data.Data, any(want))
	}
	_, err = r.client.GetSecretRequest(r.ctx, r.okmsID, path, ptr(uint32(9)))
	r.refused("GetSecretRequest of a version that never was", err, 404, secretNotFound)
	_, err = r.client.PatchSecretRequest(r.ctx, r.okmsID, "conformance/none", patch)
	r.refused("PatchSecretRequest of a missing secret", err, 404, secretNotFound)

	subkeys, err := r.client.GetSecretSubkeys(r.ctx, r.okmsID, path, nil, nil)
	if r.works("GetSecretSubkeys", err) {
		want := object{"user": nil, "address": object{"ip": nil}, "ports": nil}
		r.equal("GetSecretSubkeys: subkeys", subkeys.Data.Subkeys, any(want))
	}
	subkeys, err = r.client.GetSecretSubkeys(r.ctx, r.okmsID, path, ptr(uint32(1)), ptr(uint32(1)))
	if r.works("GetSecretSubkeys of a version to a depth", err) {
		want := object{"login": nil, "address": nil, "ports": nil}
		r.equal("GetSecretSubkeys: one level", subkeys.Data.Subkeys, any(want))
		r.equal("GetSecretSubkeys: version", val(subkeys.Data.Metadata.Version), uint32(1))
	}
}

func (r *run) kv2States(path string) {
	readable := func(name string, version uint32, want bool) {
		_, err := r.client.GetSecretRequest(r.ctx, r.okmsID, path, &version)
		if want {
			r.works(name, err)
		} else {
			r.refused(name, err, 404, 0)
		}
	}
	r.works("DeleteSecretRequest", r.client.DeleteSecretRequest(r.ctx, r.okmsID, path))
	_, err := r.client.GetSecretRequest(r.ctx, r.okmsID, path, nil)
	r.refused("GetSecretRequest of the deactivated latest", err, 404, 0)
	readable("GetSecretRequest of an older version meanwhile", 1, true)

	r.works("PostSecretUndelete", r.client.PostSecretUndelete(r.ctx, r.okmsID, path, []uint32{2}))
	readable("GetSecretRequest after undelete", 2, true)

	r.works("DeleteSecretVersions", r.client.DeleteSecretVersions(r.ctx, r.okmsID, path, []uint32{1, 2}))
	readable("GetSecretRequest of deleted version 1", 1, false)
	readable("GetSecretRequest of deleted version 2", 2, false)

	r.works("PutSecretDestroy", r.client.PutSecretDestroy(r.ctx, r.okmsID, path, []uint32{1}))
	r.works("PostSecretUndelete of both", r.client.PostSecretUndelete(r.ctx, r.okmsID, path, []uint32{1, 2}))
	readable("GetSecretRequest of a destroyed version", 1, false)
	readable("GetSecretRequest of the undeleted other", 2, true)
}

func (r *run) kv2Metadata(path string) {
	body := types.SecretUpdatableMetadata{
		CustomMetadata:     &map[string]string{"team": "shop", "tier": "1"},
		MaxVersions:        ptr(uint32(2)),
		DeleteVersionAfter: ptr("10h30m10s"),
	}
	r.works("PostSecretMetadata", r.client.PostSecretMetadata(r.ctx, r.okmsID, path, body))
	change := types.SecretUpdatableMetadata{CustomMetadata: &map[string]string{"tier": "2"}}
	r.works("PatchSecretMetadata", r.client.PatchSecretMetadata(r.ctx, r.okmsID, path, change))

	// A third version prunes the first.
	_, err := r.client.PostSecretRequest(r.ctx, r.okmsID, path, types.PostSecretRequest{Data: object{}})
	r.works("PostSecretRequest over max_versions", err)

	answer, err := r.client.GetSecretsMetadata(r.ctx, r.okmsID, path, false)
	if r.works("GetSecretsMetadata", err) {
		metadata := answer.Data
		r.equal("GetSecretsMetadata: current_version", val(metadata.CurrentVersion), uint32(3))
		r.equal("GetSecretsMetadata: oldest_version", val(metadata.OldestVersion), uint32(2))
		r.equal("GetSecretsMetadata: max_versions", val(metadata.MaxVersions), uint32(2))
		r.equal("GetSecretsMetadata: delete_version_after", val(metadata.DeleteVersionAfter), "10h30m10s")
		r.equal("GetSecretsMetadata: custom_metadata", val(metadata.CustomMetadata),
			map[string]string{"team": "shop", "tier": "2"})
		versions := val(metadata.Versions)
		r.equal("GetSecretsMetadata: number of versions", len(versions), 2)
		r.equal("GetSecretsMetadata: version 2 is live", val(versions["2"].DeletionTime), "")
		r.equal("GetSecretsMetadata: version 3 will be deactivated", val(versions["3"].DeletionTime) != "", true)
	}

	list := func(name, folder, want string) {
		answer, err := r.client.GetSecretsMetadata(r.ctx, r.okmsID, folder, true)
		if r.works(name, err) {
			r.equal(name+": keys", val(answer.Data.Keys), []string{want})
		}
	}
	list("GetSecretsMetadata lists a folder", "conformance/kv2", "db")
	list("GetSecretsMetadata lists a folder of folders", "conformance", "kv2/")
	root, err := r.client.GetSecretsMetadata(r.ctx, r.okmsID, "", true)
	if r.works("GetSecretsMetadata lists the root", err) {
		listed := slices.Contains(val(root.Data.Keys), "conformance/")
		r.equal("GetSecretsMetadata lists the root: our folder", listed, true)
	}
}
