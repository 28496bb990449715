{{- /*
shoppe.facility.catalogue: the facility's services, as YAML, SERVICE: row.  Names and addresses
of services are defined only here; docs/reference/services.md is generated from it.

A service has the name of its chart, and its values below global.services.  Its row:
  suffix      suffix of its objects' names, RELEASE-SUFFIX
  namespace   suffix of its namespace; without one the release's namespace
  addresses   KEY: scheme, port, and
                value       the chart's key of that port
                path        path of the address
                connection  its name in users' pods (connections.json)
              The address of an external service is global.services.SERVICE.KEY.
  page        path prefix of its pages, for browsers that have logged in
  database    components that may connect to its database
  bucket      true: the operator creates a bucket for it, with access keys
  secrets     true: it has Secrets that are generated, shoppe.SERVICE.generatedSecrets
  writer      true: it may write to a folder of its name in users' buckets
  external    values that an external service needs in addition to `url`: keys (one of them),
              what they are, and `value`, the template that returns a required value
  noExternal  instead of `external`: why the service cannot be external
*/ -}}
{{- define "shoppe.facility.catalogue" -}}
jupyterhub:
  suffix: hub
  secrets: true
  addresses:
    url: {scheme: http, port: 8081, path: /hub/api}
  noExternal: "a facility needs its own hub, from which all users come"

operator:
  suffix: api
  addresses:
    url: {scheme: http, port: 80, connection: api}
  noExternal: "a facility needs its own operator, which creates its users"

dask-gateway:
  suffix: dask-traefik
  namespace: -dask
  secrets: true
  addresses:
    url: {scheme: http, port: 80, connection: dask-gateway}
    proxyUrl: {scheme: gateway, port: 80}
  noExternal: "an external gateway cannot identify the facility's users"

xcache:
  suffix: xcache
  addresses:
    url: {scheme: root, port: 1094, value: Service.Port, connection: xcache}
  external: []

objectstore:
  suffix: objectstore
  secrets: true
  addresses:
    url: {scheme: http, port: 7070, value: service.port, connection: s3}
    adminUrl: {scheme: http, port: 7080, value: service.adminPort}
  external:
    - keys: [adminUrl, bucket]
      what: "the address of versitygw's admin API, where users get accounts, or to the name of one bucket for all results and artifacts"
    - keys: [existingSecret]
      what: "a Secret with root-access-key and root-secret-key (adminUrl), or with aws-config and aws-credentials (bucket)"

postgresql:
  suffix: postgresql
  secrets: true
  addresses: {}
  noExternal: "the Secrets of mlflow.backendStore.existingDatabaseSecret and servicex.postgres.existingDatabaseSecret name an external PostgreSQL"

mlflow:
  suffix: mlflow
  secrets: true
  addresses:
    url: {scheme: http, port: 5000, value: service.port, connection: mlflow}
  page: /
  database: [mlflow, mlflow-gc]
  bucket: true
  external:
    - keys: [token]
      what: "facility if it accepts the facility's tokens and has a workspace for each user, or to none if users have their own logins"

servicex:
  suffix: servicex
  secrets: true
  addresses:
    url: {scheme: http, port: 5000, value: service.port, connection: servicex}
  page: /services/servicex
  database: [servicex, servicex-controller]
  bucket: true
  writer: true
  external:
    - keys: [issuer]
      what: "the issuer of this facility's tokens, which the external ServiceX must accept"
      value: shoppe.facility.issuer

triton:
  suffix: triton
  addresses:
    url: {scheme: http, port: 8000, value: service.httpPort, connection: triton}
    grpcUrl: {scheme: grpc, port: 8001, value: service.grpcPort, connection: triton-grpc}
  bucket: true
  external:
    - keys: [grpcUrl]
      what: "its address for gRPC, grpc://HOST:PORT"
{{- end -}}
