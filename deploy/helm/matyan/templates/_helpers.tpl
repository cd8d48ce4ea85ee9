{{/* The four services. `values` is their key in the values; the rest determines their settings. */}}
{{- define "matyan.roles" -}}
frontier: {values: frontier, port: 53801, service: true, store: false}
backend: {values: backend, port: 53800, service: true, store: true}
ingest-worker: {values: ingestWorker, port: 9090, service: false, store: true}
control-worker: {values: controlWorker, port: 9090, service: false, store: true}
{{- end -}}

{{- define "matyan.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Takes a dictionary of `root` and `role`. */}}
{{- define "matyan.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .role }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "matyan.labels" -}}
{{ include "matyan.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "matyan.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "matyan.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "matyan.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* The restricted pod security standard of Kubernetes, with a read-only root file system. */}}
{{- define "matyan.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "matyan.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Not empty if backends mount the token of the first operator. */}}
{{- define "matyan.operator" -}}
{{- if and (eq .Values.access "on") .Values.operator.existingSecret -}}
true
{{- end -}}
{{- end -}}

{{/* Not empty if callers send tokens to the ingress only, and all of its hosts have certificates. */}}
{{- define "matyan.behindProxy" -}}
{{- $ingress := .Values.ingress -}}
{{- $others := and (or (not $ingress.ingestion.host) $ingress.ingestion.tlsSecret) (or (not $ingress.grpc.host) $ingress.grpc.tlsSecret) -}}
{{- $internal := and (eq .Values.frontier.service.type "ClusterIP") (eq .Values.backend.service.type "ClusterIP") -}}
{{- $has := and $ingress.enabled $ingress.tlsSecret $others $internal -}}
{{- if and (eq .Values.access "on") $has (not .Values.tls.existingSecret) (not (hasKey .Values.settings "MATYAN_ACCESS_BEHIND_PROXY")) -}}
true
{{- end -}}
{{- end -}}

{{- define "matyan.validate" -}}
{{- $fdb := .Values.foundationdb -}}
{{- if eq (empty $fdb.clusterFileConfigMap) (empty $fdb.clusterFileSecret) -}}
{{- fail "foundationdb: set clusterFileConfigMap or clusterFileSecret, and not both" -}}
{{- end -}}
{{- if not .Values.kafka.bootstrapServers -}}
{{- fail "kafka.bootstrapServers: set your brokers, host:port,host:port" -}}
{{- end -}}
{{- if not .Values.blobUri.existingSecret -}}
{{- fail "blobUri.existingSecret: set the name of a secret with a random string" -}}
{{- end -}}
{{- $on := eq .Values.access "on" -}}
{{- $own := or (hasKey .Values.backend.settings "MATYAN_OPERATOR_TOKEN_FILE") (hasKey .Values.backend.settings "MATYAN_ACCESS_FILE") -}}
{{- if and $on (not .Values.operator.existingSecret) (not $own) -}}
{{- fail "operator.existingSecret: set the name of a secret with the first operator's token, which `matyan access token generate` prints; or set access to off, so that everyone who can reach the services may do everything" -}}
{{- end -}}
{{- if and $on (not .Values.tls.existingSecret) (not (include "matyan.behindProxy" .)) (not (hasKey .Values.settings "MATYAN_ACCESS_BEHIND_PROXY")) -}}
{{- fail "access: others on the network could read tokens: set tls.existingSecret, or ingress.enabled with a tlsSecret for each host; or, if something else serves TLS, settings.MATYAN_ACCESS_BEHIND_PROXY to \"true\"" -}}
{{- end -}}
{{- if and $on .Values.tls.existingSecret (not (hasKey .Values.frontier.settings "MATYAN_BACKEND_URL")) -}}
{{- fail "frontier.settings.MATYAN_BACKEND_URL: with access control and TLS, set an https address of the backends that their certificate contains" -}}
{{- end -}}
{{- $oidc := .Values.signIn.oidc -}}
{{- $github := .Values.signIn.github -}}
{{- if and (not $on) (or $oidc.issuer $github.clientId) -}}
{{- fail "signIn: without access control nobody has to sign in: set access to on, or leave the providers out" -}}
{{- end -}}
{{- if ne (empty $oidc.issuer) (empty $oidc.clientId) -}}
{{- fail "signIn.oidc: set both issuer and clientId" -}}
{{- end -}}
{{- if and $github.clientId (not $github.existingSecret) -}}
{{- fail "signIn.github.existingSecret: set the name of a secret with the client secret of the OAuth app" -}}
{{- end -}}
{{- if or (and $oidc.existingSecret (not $oidc.issuer)) (and $github.existingSecret (not $github.clientId)) -}}
{{- fail "signIn: a secret is set without its provider: set signIn.oidc.issuer or signIn.github.clientId" -}}
{{- end -}}
{{- $blobs := .Values.blobs -}}
{{- if and (eq $blobs.type "s3") (not $blobs.s3.endpoint) -}}
{{- fail "blobs.s3.endpoint: set the address of the S3 server" -}}
{{- end -}}
{{- if and (eq $blobs.type "s3") (eq $blobs.s3.credentials "keys") (not $blobs.s3.existingSecret) -}}
{{- fail "blobs.s3.existingSecret: set the name of a secret with both keys, or set credentials to aws" -}}
{{- end -}}
{{- if and (eq $blobs.type "azure") (not $blobs.azure.accountUrl) (not $blobs.azure.existingSecret) -}}
{{- fail "blobs.azure: set accountUrl, or existingSecret with a connection string" -}}
{{- end -}}
{{- $login := hasPrefix "SASL_" .Values.kafka.security.protocol -}}
{{- if and $login (or (not .Values.kafka.security.mechanism) (not .Values.kafka.security.existingSecret)) -}}
{{- fail "kafka.security: a SASL protocol needs mechanism and existingSecret" -}}
{{- end -}}
{{- with .Values.ingestWorker -}}
{{- $most := ternary .autoscaling.maxReplicas .replicas .autoscaling.enabled -}}
{{- if gt (int (default 0 $most)) (int $.Values.kafka.partitions) -}}
{{- fail "ingestWorker: use at most kafka.partitions workers; more would be idle" -}}
{{- end -}}
{{- end -}}
{{- end -}}
