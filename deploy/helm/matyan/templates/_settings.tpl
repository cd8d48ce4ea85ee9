{{/* Settings as lists of environment variables; each process includes the parts that it uses. Helm passes numbers as floats, and
would format large ones as 1e+06, so they are converted to integers. */}}

{{- define "matyan.settings.common" -}}
- {name: MATYAN_ENVIRONMENT, value: {{ .Values.environment | quote }}}
- {name: MATYAN_ACCESS, value: {{ .Values.access | quote }}}
- {name: LOG_LEVEL, value: {{ .Values.logging.level | quote }}}
- {name: LOG_FORMAT, value: {{ .Values.logging.format | quote }}}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- define "matyan.settings.kafka" -}}
{{- with .Values.kafka -}}
- {name: KAFKA_BOOTSTRAP_SERVERS, value: {{ .bootstrapServers | quote }}}
- {name: KAFKA_DATA_INGESTION_TOPIC, value: {{ .topics.ingestion | quote }}}
- {name: KAFKA_DATA_INGESTION_PARTITIONS, value: {{ .partitions | int64 | quote }}}
- {name: KAFKA_CONTROL_EVENTS_TOPIC, value: {{ .topics.control | quote }}}
- {name: KAFKA_DEAD_LETTERS_TOPIC, value: {{ .topics.deadLetters | quote }}}
- {name: KAFKA_CONSUMER_GROUP, value: {{ .consumerGroup | quote }}}
- {name: KAFKA_SECURITY_PROTOCOL, value: {{ .security.protocol | quote }}}
{{- with .security }}
{{- if hasPrefix "SASL_" .protocol }}
- {name: KAFKA_SASL_MECHANISM, value: {{ .mechanism | quote }}}
- name: KAFKA_SASL_USERNAME
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: {{ .usernameKey }}}}
- name: KAFKA_SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: {{ .passwordKey }}}}
{{- end }}
{{- if .certificatesSecret }}
{{- if .caKey }}
- {name: KAFKA_CA_FILE, value: /etc/matyan/kafka/{{ .caKey }}}
{{- end }}
{{- if .certificateKey }}
- {name: KAFKA_CERTIFICATE_FILE, value: /etc/matyan/kafka/{{ .certificateKey }}}
- {name: KAFKA_KEY_FILE, value: /etc/matyan/kafka/{{ .privateKeyKey }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "matyan.settings.blobs" -}}
{{- with .Values.blobs -}}
- {name: BLOB_BACKEND_TYPE, value: {{ .type }}}
- {name: S3_PRESIGN_EXPIRY, value: {{ .presignExpiry | int64 | quote }}}
{{- if eq .type "s3" }}
- {name: S3_BUCKET, value: {{ .bucket | quote }}}
- {name: S3_ENDPOINT, value: {{ .s3.endpoint | quote }}}
{{- with .s3.publicEndpoint }}
- {name: S3_PUBLIC_ENDPOINT, value: {{ . | quote }}}
{{- end }}
- {name: S3_REGION, value: {{ .s3.region | quote }}}
- {name: S3_ADDRESSING_STYLE, value: {{ .s3.addressingStyle | quote }}}
- {name: S3_CREDENTIALS, value: {{ .s3.credentials | quote }}}
{{- if eq .s3.credentials "keys" }}
- name: S3_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .s3.existingSecret }}, key: {{ .s3.accessKeyKey }}}}
- name: S3_SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ .s3.existingSecret }}, key: {{ .s3.secretKeyKey }}}}
{{- end }}
{{- else if eq .type "gcs" }}
- {name: GCS_BUCKET, value: {{ .bucket | quote }}}
{{- with .gcs.publicEndpoint }}
- {name: GCS_PUBLIC_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with .gcs.project }}
- {name: GOOGLE_CLOUD_PROJECT, value: {{ . | quote }}}
{{- end }}
{{- if .gcs.existingSecret }}
- {name: GOOGLE_APPLICATION_CREDENTIALS, value: /etc/matyan/gcs/{{ .gcs.credentialsKey }}}
{{- end }}
{{- else }}
- {name: AZURE_CONTAINER, value: {{ .bucket | quote }}}
{{- with .azure.publicEndpoint }}
- {name: AZURE_PUBLIC_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- if .azure.existingSecret }}
- name: AZURE_CONN_STR
  valueFrom: {secretKeyRef: {name: {{ .azure.existingSecret }}, key: {{ .azure.connectionStringKey }}}}
{{- else }}
- {name: AZURE_ACCOUNT_URL, value: {{ .azure.accountUrl | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Settings that only this service has. Takes a dictionary of `root` and `role`. */}}
{{- define "matyan.settings.role" -}}
{{- $values := .root.Values -}}
{{- if has .role (list "frontier" "backend") -}}
- {name: KAFKA_MESSAGE_FORMAT, value: {{ $values.kafka.messageFormat }}}
{{- end }}
{{- if eq .role "frontier" }}
- {name: MATYAN_MAX_CONNECTIONS, value: {{ $values.frontier.maxConnections | int64 | quote }}}
{{- if not $values.tls.existingSecret }}
- {name: MATYAN_BACKEND_URL, value: "http://{{ include "matyan.fullname" .root }}-backend:{{ $values.backend.service.port | int64 }}"}
{{- end }}
{{- else }}
- {name: FDB_CLUSTER_FILE, value: /etc/matyan/foundationdb/fdb.cluster}
{{- end }}
{{- if eq .role "backend" }}
- {name: MATYAN_UI_BASE_PATH, value: {{ $values.ui.basePath | quote }}}
{{- if include "matyan.operator" .root }}
- {name: MATYAN_OPERATOR_TOKEN_FILE, value: /etc/matyan/operator/{{ $values.operator.tokenKey }}}
{{- end }}
{{- with $values.signIn.oidc }}
{{- if .issuer }}
- {name: MATYAN_OIDC_ISSUER, value: {{ .issuer | quote }}}
- {name: MATYAN_OIDC_CLIENT_ID, value: {{ .clientId | quote }}}
{{- if .existingSecret }}
- {name: MATYAN_OIDC_CLIENT_SECRET_FILE, value: /etc/matyan/oidc/{{ .secretKey }}}
{{- end }}
- {name: MATYAN_OIDC_TITLE, value: {{ .title | quote }}}
- {name: MATYAN_OIDC_SCOPES, value: {{ .scopes | quote }}}
- {name: MATYAN_OIDC_GROUPS_CLAIM, value: {{ .groupsClaim | quote }}}
{{- if .nameClaim }}
- {name: MATYAN_OIDC_NAME_CLAIM, value: {{ .nameClaim | quote }}}
{{- end }}
- {name: MATYAN_OIDC_ROLES, value: {{ .roles | quote }}}
{{- end }}
{{- end }}
{{- with $values.signIn.github }}
{{- if .clientId }}
- {name: MATYAN_GITHUB_URL, value: {{ .url | quote }}}
- {name: MATYAN_GITHUB_CLIENT_ID, value: {{ .clientId | quote }}}
- {name: MATYAN_GITHUB_CLIENT_SECRET_FILE, value: /etc/matyan/github/{{ .secretKey }}}
- {name: MATYAN_GITHUB_ROLES, value: {{ .roles | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- if and (has .role (list "frontier" "backend")) $values.ingress.tlsSecret (include "matyan.behindProxy" .root) }}
- {name: MATYAN_ACCESS_BEHIND_PROXY, value: "true"}
{{- end }}
{{- /* A frontier signs its questions about callers with it. */}}
{{- if or (eq .role "backend") (and (eq .role "frontier") (eq $values.access "on")) }}
- name: BLOB_URI_SECRET
  valueFrom: {secretKeyRef: {name: {{ $values.blobUri.existingSecret }}, key: {{ $values.blobUri.secretKey }}}}
{{- end }}
{{- $hosts := compact (list $values.ingress.host $values.ingress.ingestion.host $values.ingress.grpc.host) }}
{{- if and (has .role (list "frontier" "backend")) (or $values.allowedHosts $values.ingress.enabled) }}
- {name: MATYAN_ALLOWED_HOSTS, value: {{ concat $values.allowedHosts (ternary $hosts (list) $values.ingress.enabled) | uniq | join "," | quote }}}
{{- end }}
{{- if and (has .role (list "frontier" "backend")) $values.ingress.enabled (not $values.ingress.admin) }}
- {name: MATYAN_CLOSED_HOSTS, value: {{ $hosts | uniq | join "," | quote }}}
{{- end }}
{{- if and (has .role (list "frontier" "backend")) $values.corsOrigins }}
- {name: CORS_ORIGINS, value: {{ $values.corsOrigins | toJson | squote }}}
{{- end }}
{{- if $values.tls.existingSecret }}
- {name: TLS_CERT_FILE, value: /etc/matyan/tls/tls.crt}
- {name: TLS_KEY_FILE, value: /etc/matyan/tls/tls.key}
{{- end }}
{{- end -}}

{{/* Mounts for files that settings refer to. Takes a dictionary of `root`, `store` and `tls`, the latter two booleans. */}}
{{- define "matyan.volumes" -}}
{{- $values := .root.Values -}}
- {name: tmp, emptyDir: {}}
{{- with $values.kafka.security.certificatesSecret }}
- {name: kafka, secret: {secretName: {{ . }}}}
{{- end }}
{{- if and (eq $values.blobs.type "gcs") $values.blobs.gcs.existingSecret }}
- {name: gcs, secret: {secretName: {{ $values.blobs.gcs.existingSecret }}}}
{{- end }}
{{- if .store }}
{{- with $values.foundationdb }}
- name: foundationdb
  {{- if .clusterFileSecret }}
  secret:
    secretName: {{ .clusterFileSecret }}
  {{- else }}
  configMap:
    name: {{ .clusterFileConfigMap }}
  {{- end }}
    items: [{key: {{ .clusterFileKey }}, path: fdb.cluster}]
{{- end }}
{{- end }}
{{- if and .tls $values.tls.existingSecret }}
- {name: tls, secret: {secretName: {{ $values.tls.existingSecret }}}}
{{- end }}
{{- if eq (default "" .role) "backend" }}
{{- if include "matyan.operator" .root }}
- {name: operator, secret: {secretName: {{ $values.operator.existingSecret }}}}
{{- end }}
{{- with $values.signIn.oidc.existingSecret }}
- {name: oidc, secret: {secretName: {{ . }}}}
{{- end }}
{{- with $values.signIn.github.existingSecret }}
- {name: github, secret: {secretName: {{ . }}}}
{{- end }}
{{- end }}
{{- with $values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- with dig "extraVolumes" list (default dict .values) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "matyan.mounts" -}}
{{- $values := .root.Values -}}
- {name: tmp, mountPath: /tmp}
{{- if $values.kafka.security.certificatesSecret }}
- {name: kafka, mountPath: /etc/matyan/kafka, readOnly: true}
{{- end }}
{{- if and (eq $values.blobs.type "gcs") $values.blobs.gcs.existingSecret }}
- {name: gcs, mountPath: /etc/matyan/gcs, readOnly: true}
{{- end }}
{{- if .store }}
- {name: foundationdb, mountPath: /etc/matyan/foundationdb, readOnly: true}
{{- end }}
{{- if and .tls $values.tls.existingSecret }}
- {name: tls, mountPath: /etc/matyan/tls, readOnly: true}
{{- end }}
{{- if eq (default "" .role) "backend" }}
{{- if include "matyan.operator" .root }}
- {name: operator, mountPath: /etc/matyan/operator, readOnly: true}
{{- end }}
{{- if $values.signIn.oidc.existingSecret }}
- {name: oidc, mountPath: /etc/matyan/oidc, readOnly: true}
{{- end }}
{{- if $values.signIn.github.existingSecret }}
- {name: github, mountPath: /etc/matyan/github, readOnly: true}
{{- end }}
{{- end }}
{{- with $values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- with dig "extraVolumeMounts" list (default dict .values) }}
{{ toYaml . }}
{{- end }}
{{- end -}}
