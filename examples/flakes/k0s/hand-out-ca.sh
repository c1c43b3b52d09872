# Answers one HTTP request with a signature and the CA's certificate, which is no secret.
while IFS= read -r line && [ -n "${line%$'\r'}" ]; do :; done
ca=$data_directory/pki/ca.crt
if [ -e "$ca" ]; then
  printf 'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n'
  signature "$run/worker-token" "$ca"
  cat "$ca"
else
  printf 'HTTP/1.0 503 Service Unavailable\r\n\r\n'
fi
