package main

import (
	"github.com/ovh/okms-sdk-go/types"
)

// restV2 tells the story of one secret in the REST v2 family. Its path has a slash.
func (r *run) restV2() {
	const path = "conformance/v2"

	r.v2Create(path)
	r.v2Versions(path)
	r.v2BothFamilies(path)

	r.works("DeleteSecretV2", r.client.DeleteSecretV2(r.ctx, r.okmsID, path))
	_, err := r.client.GetSecretV2(r.ctx, r.okmsID, path, nil, nil)
	r.refused("GetSecretV2 after the deletion", err, 404, secretNotFound)
}

func (r *run) v2Create(path string) {
	body := types.PostSecretV2Request{
		Path: path,
		Metadata: &types.SecretV2MetadataShort{
			CasRequired:            ptr(true),
			CustomMetadata:         &types.SecretV2CustomMetadata{"team": "shop"},
			DeactivateVersionAfter: ptr("1d"),
			MaxVersions:            ptr(uint32(10)),
		},
		Version: types.SecretV2VersionShort{Data: &object{"k": "one"}},
	}
	created, err := r.client.PostSecretV2(r.ctx, r.okmsID, body)
	if r.works("PostSecretV2", err) {
		r.equal("PostSecretV2: path", val(created.Path), path)
		r.equal("PostSecretV2: currentVersion", val(created.Metadata.CurrentVersion), uint32(1))
		r.equal("PostSecretV2: oldestVersion", *created.Metadata.OldestVersion, uint32(0))
		r.equal("PostSecretV2: deactivateVersionAfter", val(created.Metadata.DeactivateVersionAfter), "1d")
	}
	_, err = r.client.PostSecretV2(r.ctx, r.okmsID, body)
	r.refused("PostSecretV2 of what exists", err, 400, 0)

	read, err := r.client.GetSecretV2(r.ctx, r.okmsID, path, nil, ptr(false))
	if r.works("GetSecretV2 without data", err) {
		r.equal("GetSecretV2: no data", read.Version.Data == nil, true)
		r.equal("GetSecretV2: state", read.Version.State, types.SecretV2StateActive)
		r.equal("GetSecretV2: casRequired", val(read.Metadata.CasRequired), true)
		r.equal("GetSecretV2: customMetadata", val(read.Metadata.CustomMetadata),
			types.SecretV2CustomMetadata{"team": "shop"})
	}

	update := types.PutSecretV2Request{Version: &types.SecretV2VersionShort{Data: &object{"k": "two"}}}
	_, err = r.client.PutSecretV2(r.ctx, r.okmsID, path, nil, update)
	r.refused("PutSecretV2 without the required cas", err, 400, 0)
	_, err = r.client.PutSecretV2(r.ctx, r.okmsID, path, ptr(uint32(7)), update)
	r.refused("PutSecretV2 with a wrong cas", err, 400, 0)
	updated, err := r.client.PutSecretV2(r.ctx, r.okmsID, path, ptr(uint32(1)), update)
	if r.works("PutSecretV2", err) {
		r.equal("PutSecretV2: currentVersion", val(updated.Metadata.CurrentVersion), uint32(2))
	}
}

func (r *run) v2Versions(path string) {
	third := types.PostSecretVersionV2Request{Data: &object{"k": "three"}}
	version, err := r.client.PostSecretVersionV2(r.ctx, r.okmsID, path, ptr(uint32(2)), third)
	if r.works("PostSecretVersionV2", err) {
		r.equal("PostSecretVersionV2: id", version.Id, uint32(3))
		r.equal("PostSecretVersionV2: state", version.State, types.SecretV2StateActive)
	}
	older, err := r.client.GetSecretV2(r.ctx, r.okmsID, path, ptr(uint32(2)), ptr(true))
	if r.works("GetSecretV2 of a version", err) {
		r.equal("GetSecretV2: data of the version", val(older.Version.Data), object{"k": "two"})
		r.equal("GetSecretV2: currentVersion beside it", val(older.Metadata.CurrentVersion), uint32(3))
	}
	version, err = r.client.GetSecretVersionV2(r.ctx, r.okmsID, path, 3, ptr(true))
	if r.works("GetSecretVersionV2", err) {
		r.equal("GetSecretVersionV2: data", val(version.Data), object{"k": "three"})
	}

	state := func(state types.SecretV2State) {
		name := "PutSecretVersionV2 " + string(state)
		body := types.PutSecretVersionV2Request{State: state}
		version, err := r.client.PutSecretVersionV2(r.ctx, r.okmsID, path, 3, body)
		if r.works(name, err) {
			r.equal(name+": state", version.State, state)
			r.equal(name+": no data", version.Data == nil, true)
		}
	}
	state(types.SecretV2StateDeactivated)
	latest, err := r.client.GetSecretV2(r.ctx, r.okmsID, path, nil, ptr(true))
	if r.works("GetSecretV2 of the deactivated latest", err) {
		r.equal("GetSecretV2: deactivated", latest.Version.State, types.SecretV2StateDeactivated)
		r.equal("GetSecretV2: no data of a deactivated version", latest.Version.Data == nil, true)
		r.equal("GetSecretV2: currentVersion stays", val(latest.Metadata.CurrentVersion), uint32(3))
	}
	state(types.SecretV2StateActive)
	state(types.SecretV2StateDeleted)
	_, err = r.client.PutSecretVersionV2(r.ctx, r.okmsID, path, 1, types.PutSecretVersionV2Request{State: "activated"})
	r.refused("PutSecretVersionV2 to a word that is no state", err, 400, 0)
	_, err = r.client.GetSecretVersionV2(r.ctx, r.okmsID, path, 9, nil)
	r.refused("GetSecretVersionV2 of a version that never was", err, 404, secretNotFound)

	// The new setting applies before the check, so that no cas is needed.
	lifted := types.PutSecretV2Request{
		Metadata: &types.SecretV2MetadataShort{CasRequired: ptr(false)},
		Version:  &types.SecretV2VersionShort{Data: &object{"k": "four"}},
	}
	updated, err := r.client.PutSecretV2(r.ctx, r.okmsID, path, nil, lifted)
	if r.works("PutSecretV2 that lifts the cas", err) {
		r.equal("PutSecretV2: fourth version", val(updated.Metadata.CurrentVersion), uint32(4))
	}
	alone := types.PutSecretV2Request{Metadata: &types.SecretV2MetadataShort{DeactivateVersionAfter: ptr("0s")}}
	updated, err = r.client.PutSecretV2(r.ctx, r.okmsID, path, nil, alone)
	if r.works("PutSecretV2 of metadata alone", err) {
		r.equal("PutSecretV2: no new version", val(updated.Metadata.CurrentVersion), uint32(4))
	}

	list, err := r.client.ListSecretVersionV2(r.ctx, r.okmsID, path, nil, nil)
	if r.works("ListSecretVersionV2", err) {
		states := make([]types.SecretV2State, 0)
		for _, version := range list.ListSecretVersionV2Response {
			states = append(states, version.State)
		}
		r.equal("ListSecretVersionV2: states", states, []types.SecretV2State{"active", "active", "deleted", "active"})
		r.equal("ListSecretVersionV2: no next page", list.PageCursorNext, "")
	}
}

// v2BothFamilies reads through one family what the other wrote.
func (r *run) v2BothFamilies(path string) {
	read, err := r.client.GetSecretRequest(r.ctx, r.okmsID, path, nil)
	if r.works("GetSecretRequest of what REST v2 wrote", err) {
		r.equal("GetSecretRequest: data of REST v2", read.Data.Data, any(object{"k": "four"}))
	}
	_, err = r.client.PostSecretRequest(r.ctx, r.okmsID, path, types.PostSecretRequest{Data: object{"k": "five"}})
	r.works("PostSecretRequest to what REST v2 made", err)
	latest, err := r.client.GetSecretV2(r.ctx, r.okmsID, path, nil, ptr(true))
	if r.works("GetSecretV2 of what KV2 wrote", err) {
		r.equal("GetSecretV2: data of KV2", val(latest.Version.Data), object{"k": "five"})
	}
}
