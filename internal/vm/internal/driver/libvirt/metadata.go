package libvirt

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"libvirt.org/go/libvirt"

	"github.com/novacron/novacron/internal/vm/internal/driver"
)

// metadataNamespace is the namespace of our element in a domain's or network's metadata. libvirt keeps foreign elements there.
const metadataNamespace = "https://novacron.io/xmlns/libvirt/1"

// domainMetadata is our element in a domain.
type domainMetadata struct {
	XMLName      xml.Name  `xml:"https://novacron.io/xmlns/libvirt/1 domain"`
	Installation uuid.UUID `xml:"installation"`
	VM           uuid.UUID `xml:"vm"`
	Tenant       uuid.UUID `xml:"tenant"`
	Name         string    `xml:"name"`
	Generation   int64     `xml:"generation"`
	Autostart    int       `xml:"autostart,omitempty"`
}

// networkMetadata is our element in a network.
type networkMetadata struct {
	XMLName      xml.Name  `xml:"https://novacron.io/xmlns/libvirt/1 network"`
	Installation uuid.UUID `xml:"installation"`
	Network      uuid.UUID `xml:"network"`
	Name         string    `xml:"name"`
}

// readMetadata finds our element among those of other programs. It answers false where there is none.
func readMetadata[T domainMetadata | networkMetadata](inner, element string) (T, bool) {
	var v T
	d := xml.NewDecoder(strings.NewReader(inner))
	for {
		token, err := d.Token()
		if err != nil {
			return v, false
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if start.Name.Space != metadataNamespace || start.Name.Local != element {
			if d.Skip() != nil {
				return v, false
			}
			continue
		}
		return v, d.DecodeElement(&v, &start) == nil
	}
}

func writeMetadata(v any) (string, error) {
	b, err := xml.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode metadata: %w", err)
	}
	return string(b), nil
}

// managedID gives the id of a domain whose name and UUID are as we make them. It asks nothing of libvirtd.
func managedID(dom *libvirt.Domain) (uuid.UUID, bool) {
	name, err := dom.GetName()
	if err != nil {
		return uuid.Nil, false
	}
	text, err := dom.GetUUIDString()
	if err != nil || name != driver.NamePrefix+text {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(text)
	return id, err == nil
}
