{{- /*
shoppe.lib.userEgress: the egress rules of each pod that runs users' code or opens addresses
that users give.  Data and packages come from anywhere but the addresses at which clouds give
a node's credentials to whoever asks.  Pods are a peer of their own, since some networks apply
ranges of addresses to what is outside of the cluster alone.  Input: none.
*/ -}}
{{- define "shoppe.lib.userEgress" -}}
- to:
    - namespaceSelector: {}
    - ipBlock:
        cidr: 0.0.0.0/0
        except:
          # AWS, Azure, Google, OpenStack and most others; next AWS' for tasks and for pods.
          - 169.254.169.254/32
          - 169.254.170.2/32
          - 169.254.170.23/32
          # Azure's, Alibaba's and Oracle's.
          - 168.63.129.16/32
          - 100.100.100.200/32
          - 192.0.0.192/32
    - ipBlock:
        cidr: ::/0
        except:
          # AWS', the second for pods; Google's.
          - fd00:ec2::254/128
          - fd00:ec2::23/128
          - fd20:ce::254/128
{{- end -}}
