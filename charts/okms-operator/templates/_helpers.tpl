{{- define "okms-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "okms-operator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "okms-operator.fullname" .) -}}
{{- end -}}

{{- define "okms-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "okms-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "okms-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "okms-operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- /* The credential Secrets to mount, by the folder they are mounted at. */ -}}
{{- define "okms-operator.credentials" -}}
{{- $credentials := deepCopy .Values.credentials -}}
{{- if .Values.store.create -}}
{{- $credentials = set $credentials "default" .Values.store.credentialSecret -}}
{{- end -}}
{{- toYaml $credentials -}}
{{- end -}}

{{- /* Stops with one sentence for each value without which the store cannot work. */ -}}
{{- define "okms-operator.validate" -}}
{{- $problems := list -}}
{{- with .Values.store -}}
{{- if .create -}}
{{- if not .endpoint -}}
{{- $problems = append $problems "store.endpoint is missing: set it to the address of your region's OKMS, such as https://eu-west-rbx.okms.ovh.net" -}}
{{- end -}}
{{- if not .credentialSecret -}}
{{- $problems = append $problems (printf "store.credentialSecret is missing: put your OKMS access certificate into a Secret (kubectl create secret tls okms-client -n %s --cert=client.crt --key=client.key) and set it to the name of that Secret" $.Release.Namespace) -}}
{{- end -}}
{{- if not .access -}}
{{- $problems = append $problems "store.access is missing: say which namespaces may read which paths, such as [{namespaces: [shop], paths: [\"prod/shop/*\"]}]" -}}
{{- end -}}
{{- if hasKey $.Values.credentials "default" -}}
{{- $problems = append $problems "credentials.default is in the way of store.credentialSecret, which is mounted at /etc/okms/default: rename it" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n\nThe connection to OKMS is not complete:\n- %s\nTo create ClusterOkmsStores by yourself instead, set store.create to false.\n" (join "\n- " $problems)) -}}
{{- end -}}
{{- end -}}

{{- /* Who the operator is to the API server. */ -}}
{{- define "okms-operator.user" -}}
{{- printf "system:serviceaccount:%s:%s" .Release.Namespace (include "okms-operator.serviceAccountName" .) -}}
{{- end -}}

{{- /* A regular expression for the addresses that namespaced stores may use, in lower case: scheme, host and port decide. */ -}}
{{- define "okms-operator.allowedEndpoints" -}}
{{- $addresses := list -}}
{{- range .Values.namespacedStores.allowedEndpoints -}}
{{- $address := . | lower | trimPrefix "https://" -}}
{{- $port := regexFind ":([0-9]+|[*])$" $address -}}
{{- $host := trimSuffix $port $address | regexQuoteMeta | replace "\\*" "[a-z0-9-]*" -}}
{{- if eq $port ":*" -}}
{{- $port = "(:[0-9]{1,5})?" -}}
{{- else if or (eq $port "") (eq $port ":443") -}}
{{- $port = "(:443)?" -}}
{{- end -}}
{{- $addresses = append $addresses (print $host $port) -}}
{{- end -}}
{{- printf "^https://(%s)(/.*)?$" (join "|" $addresses) -}}
{{- end -}}
