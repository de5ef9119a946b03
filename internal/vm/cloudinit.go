package vm

// CloudInit is what cloud-init in a guest is given beside user-data and SSH keys. None of it is shown again.
type CloudInit struct {
	VendorData    string `json:"vendor_data,omitempty" maxLength:"65536" doc:"cloud-init vendor-data: what the image's or the platform's people want; user-data overrides it. Of a kind that cloud-init knows by its beginning." example:"#cloud-config\npackages: [\"qemu-guest-agent\"]"`
	NetworkConfig string `json:"network_config,omitempty" maxLength:"65536" doc:"cloud-init network-config, version 1 or 2, as YAML; none: made from the interfaces." example:"version: 2\nethernets: {eth0: {dhcp4: true}}"`
	Hostname      string `json:"hostname,omitempty" maxLength:"253" pattern:"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$" patternDescription:"host name" doc:"Of the guest, with or without a domain (RFC 1123); none: the machine's name." example:"web-1.example.org"`
	PasswordHash  string `json:"password_hash,omitempty" maxLength:"256" doc:"Of the default user's password, as crypt(5) has it: yescrypt, gost-yescrypt, scrypt, SHA-512, SHA-256 or bcrypt. Make one with mkpasswd or openssl passwd -6. SSH logins by password stay as the image has them." example:"$6$Zk2MkzFg$Zu5nYo5mBzmsKo…"`
}
