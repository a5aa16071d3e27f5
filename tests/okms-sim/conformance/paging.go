package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/ovh/okms-sdk-go/types"
)

// paging walks lists of more than one page, by hand and by the SDK's iterators.
func (r *run) paging() {
	const count = 25
	const folder = "conformance/pages/"
	size := ptr(uint32(10))

	if !r.works("seeding pages", r.seed(folder, count)) {
		return
	}

	first, err := r.client.ListSecretV2(r.ctx, r.okmsID, size, nil)
	if r.works("ListSecretV2", err) {
		r.equal("ListSecretV2: a full page", len(first.ListSecretV2Response), 10)
		r.equal("ListSecretV2: a next page", first.PageCursorNext != "", true)
		next, err := r.client.ListSecretV2(r.ctx, r.okmsID, size, &first.PageCursorNext)
		if r.works("ListSecretV2 of the next page", err) {
			repeated := val(next.ListSecretV2Response[0].Path) == val(first.ListSecretV2Response[9].Path)
			r.equal("ListSecretV2: the next page goes on", repeated, false)
		}
	}

	secrets := 0
	iterator := r.client.ListAllSecrets(r.okmsID, size)
	for secret, err := range iterator.Iter(r.ctx) {
		if err != nil {
			r.works("ListAllSecrets", err)
			return
		}
		if strings.HasPrefix(val(secret.Path), folder) {
			secrets++
		}
	}
	r.equal("ListAllSecrets: every secret once", secrets, count)

	versions := make([]uint32, 0)
	for version, err := range r.client.ListAllSecretVersions(r.okmsID, folder+"s01", size).Iter(r.ctx) {
		if err != nil {
			r.works("ListAllSecretVersions", err)
			return
		}
		versions = append(versions, version.Id)
	}
	r.equal("ListAllSecretVersions: every version once", len(versions), count)
	r.equal("ListAllSecretVersions: in order", slices.IsSorted(versions), true)

	answer, err := r.client.GetSecretsMetadata(r.ctx, r.okmsID, strings.TrimSuffix(folder, "/"), true)
	if r.works("GetSecretsMetadata lists many", err) {
		r.equal("GetSecretsMetadata: keys", len(val(answer.Data.Keys)), count)
	}
	for index := range count {
		err := r.client.DeleteSecretMetadata(r.ctx, r.okmsID, fmt.Sprintf("%ss%02d", folder, index))
		if err != nil {
			r.works("DeleteSecretMetadata of many", err)
		}
	}
}

// seed makes count secrets, the second of them with count versions.
func (r *run) seed(folder string, count int) error {
	post := func(path string) error {
		body := types.PostSecretRequest{Data: object{}}
		_, err := r.client.PostSecretRequest(r.ctx, r.okmsID, path, body)
		return err
	}
	for index := range count {
		if err := post(fmt.Sprintf("%ss%02d", folder, index)); err != nil {
			return err
		}
	}
	path := folder + "s01"
	metadata := types.SecretUpdatableMetadata{MaxVersions: ptr(uint32(100))}
	if err := r.client.PostSecretMetadata(r.ctx, r.okmsID, path, metadata); err != nil {
		return err
	}
	for range count - 1 {
		if err := post(path); err != nil {
			return err
		}
	}
	return nil
}

// refusals are errors as the SDK understands them.
func (r *run) refusals() {
	_, err := r.client.GetSecretRequest(r.ctx, r.okmsID, "conformance/none", nil)
	r.refused("GetSecretRequest of a missing secret", err, 404, secretNotFound)
	_, err = r.client.GetSecretV2(r.ctx, r.okmsID, "conformance/none", nil, nil)
	r.refused("GetSecretV2 of a missing secret", err, 404, secretNotFound)
	_, err = r.client.GetSecretsMetadata(r.ctx, r.okmsID, "conformance/none", false)
	r.refused("GetSecretsMetadata of a missing secret", err, 404, secretNotFound)
	_, err = r.client.GetSecretConfig(r.ctx, uuid.New())
	r.refused("GetSecretConfig of a domain that does not exist", err, 404, domainNotFound)
	_, err = r.client.GetSecretRequest(r.ctx, r.okmsID, "conformance/bad path", nil)
	r.refused("GetSecretRequest of an impossible path", err, 400, 0)
	large := types.PostSecretRequest{Data: object{"k": strings.Repeat("x", 64*1024)}}
	_, err = r.client.PostSecretRequest(r.ctx, r.okmsID, "conformance/large", large)
	r.refused("PostSecretRequest of more than 64 KB", err, 400, 0)
}
