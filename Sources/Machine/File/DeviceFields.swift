// The keys of devices.

internal import IOMMU
internal import IOMMUFD
internal import Yams

extension MachineDescription.Device {
  init(_ node: Node) throws(Mistake) {
    self.init(PCIAddress(bus: 0), .atsTestDevice, unit: "", group: 0)
    try node.read(Self.fields, of: "A device", into: &self)
  }

  static var fields: [Field<MachineDescription.Device>] {
    [
      Field(
        key: "address", values: "[segment:]bus:device.function", summary: "where it is on the bus",
        isRequired: true,
        read: { (node, device) throws(Mistake) in
          guard let address = node.string.flatMap({ PCIAddress($0) }) else {
            throw Mistake(node, "'address' is a PCI address as 0000:01:00.0")
          }
          device.address = address
        },
        write: { Node($0.address.description) }),
      .choice("model", \.model, ["pcie-ats-testdev": .atsTestDevice], "what it is").required,
      .text("unit", \.unit, "the name of the unit that translates its DMA").required,
      .number("group", \.group, 0...65535, "its IOMMU group").required,
      .flag("ats", \.hasATS, "it can translate for itself (PCIe §10.5.1)"),
      .flag("page-requests", \.hasPageRequests, "it can ask for pages; needs ats (PCIe §10.5.2)"),
      .flag("stalls", \.canStall, "its transactions can wait for an answer; behind an SMMUv3"),
      .number("pasid-bits", \.pasidWidth, 0...20, "log2 of its PASIDs; 0: none (PCIe §7.8.9)"),
      .flag("pasid-execute", \.canExecute, "requests with PASID can ask to execute"),
      .flag("pasid-privileged", \.canBePrivileged, "and with privilege"),
      Field(
        key: "reserved-regions", values: "a list of reserved regions",
        summary: "IOVAs that firmware has a use for (RMRR, IORT RMR, IVMD)",
        read: { (node, device) throws(Mistake) in
          device.reservedRegions = try node.elements(of: "reserved-regions").read {
            (node) throws(Mistake) in
            var entry = ReservedRegionEntry()
            try node.read(ReservedRegionEntry.fields, of: "A reserved region", into: &entry)
            return ReservedRegion(range: entry.range, kind: entry.kind)
          }
        },
        write: { device in
          guard !device.reservedRegions.isEmpty else { return nil }
          return .sequence(
            .init(
              device.reservedRegions.map {
                Node(ReservedRegionEntry($0), ReservedRegionEntry.fields)
              }))
        }),
    ]
  }
}

/// A reserved region as a description has it, in the words of
/// /sys/kernel/iommu_groups/N/reserved_regions.
struct ReservedRegionEntry {
  var range: ClosedRange<UInt64> = 0...0
  var kind = ReservedRegion.Kind.reserved

  init() {}

  init(_ region: ReservedRegion) {
    range = region.range
    kind = region.kind
  }

  static var fields: [Field<ReservedRegionEntry>] {
    [
      Field(
        key: "range", values: "FIRST-LAST, hexadecimal",
        summary: "its addresses, whole pages", isRequired: true,
        read: { (node, entry) throws(Mistake) in
          guard let range = node.string.flatMap(Self.range) else {
            throw Mistake(node, "'range' is two addresses as 0xa0000000-0xa0ffffff, of whole pages")
          }
          entry.range = range
        },
        write: {
          Node(
            "0x" + String($0.range.lowerBound, radix: 16) + "-0x"
              + String($0.range.upperBound, radix: 16))
        }),
      .choice(
        "kind", \.kind,
        [
          "direct": .direct, "direct-relaxable": .directRelaxable, "reserved": .reserved,
          "msi": .msi,
        ],
        "what for; a device with a direct one is nobody's but the kernel's"
      ).required,
    ]
  }

  private static func range(_ text: String) -> ClosedRange<UInt64>? {
    let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { end in
      end.hasPrefix("0x") ? UInt64(end.dropFirst(2), radix: 16) : nil
    }
    guard ends.count == 2, let first = ends[0], let last = ends[1], first <= last,
      first % 4096 == 0, last % 4096 == 4095
    else { return nil }
    return first...last
  }
}
