"""The proxy before the SuperLink: what of its one port the silos may reach, and how much of it, as nginx reads it."""

from string import Template

PROXY_PORT, LINK_PORT = 9443, 8000
"""Where the proxy listens in its container, and the SuperLink in its own."""

# What a SuperNode calls once the operator has registered it. Everything else of Flower's port stays inside.
_FLEET = (
    "activate-node",
    "deactivate-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "pull-object",
    "push-object",
    "confirm-message-received",
    "get-run",
    "get-fab",
)

_NGINX = Template("""\
# The proxy of the federation $name, made by `fedlaw deploy render`: change federation.yaml instead.
# Flower serves fleet, control and runtime on one port, and whoever reaches control may run code on every silo. So only
# the paths below are let through, by name; a silo that tries another is answered 403, and that is logged.
worker_processes 1;
pid /tmp/nginx.pid;
error_log /dev/stderr error;

events {
  worker_connections 1024;
}

http {
  server_tokens off;
  client_body_temp_path /tmp/body;
  proxy_temp_path /tmp/answers;
  fastcgi_temp_path /tmp/unused-fastcgi;
  uwsgi_temp_path /tmp/unused-uwsgi;
  scgi_temp_path /tmp/unused-scgi;

  # A silo polls every three seconds: a line for what failed or was refused alone, the container's own check left out.
  map "$$status $$remote_addr" $$worth_a_line {
    ~^2 0;
    "403 127.0.0.1" 0;
    default 1;
  }
  log_format refused '$$time_iso8601 $$remote_addr "$$request" $$status $$request_length bytes in';
  access_log /dev/stdout refused if=$$worth_a_line;

  # Per address. Flower takes an array apart into pieces of 5 MiB, each a request; it tries again after a 503.
  limit_req_zone $$binary_remote_addr zone=requests:1m rate=200r/s;
  limit_conn_zone $$binary_remote_addr zone=connections:1m;

  resolver 127.0.0.11 valid=10s ipv6=off;  # Docker's own: a SuperLink started anew may have another address

  server {
    listen $port ssl;
    ssl_certificate /etc/fedlaw/server.crt;
    ssl_certificate_key /etc/fedlaw/server.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:silos:1m;
    ssl_session_tickets off;

    limit_req zone=requests burst=400 nodelay;
    limit_conn connections 64;
    client_max_body_size 16m;
    client_header_timeout 10s;
    client_body_timeout 60s;
    send_timeout 60s;
    keepalive_timeout 75s;

    location ~ ^/v1/fleet/($fleet)$$ {
      limit_except POST { deny all; }
      set $$superlink superlink;
      proxy_pass https://$$superlink:$link_port/v1/fleet/$$1;
      proxy_http_version 1.1;
      proxy_set_header Host superlink;
      proxy_set_header Connection "";
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate /etc/fedlaw/ca.crt;
      proxy_ssl_name superlink;
      proxy_ssl_server_name on;
      proxy_connect_timeout 5s;
      proxy_read_timeout 120s;
      proxy_max_temp_file_size 0;
    }

    location / {
      return 403;
    }
  }
}
""")


def nginx_conf(name: str) -> str:
    """nginx.conf for the federation of this name; its certificate, key and CA lie in /etc/fedlaw."""
    return _NGINX.substitute(name=name, port=PROXY_PORT, link_port=LINK_PORT, fleet="|".join(_FLEET))
