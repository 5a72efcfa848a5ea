// SPDX-License-Identifier: Apache-2.0

// The keys of a device.

internal import IOMMU
internal import IOMMUFD
internal import Yams

extension MachineDescription.Device {
  init(_ node: Node) throws(FieldError) {
    self.init(PCIAddress(bus: 0), .atsTestDevice, unit: "", group: 0)
    try node.read(Self.fields, of: "A device", into: &self)
  }

  static var fields: [Field<MachineDescription.Device>] {
    [
      Field(
        key: "address", values: "[segment:]bus:device.function", summary: "the PCI address",
        isRequired: true,
        read: { (node, device) throws(FieldError) in
          guard let address = node.string.flatMap({ PCIAddress($0) }) else {
            throw FieldError(node, "'address' must be a PCI address such as 0000:01:00.0")
          }
          device.address = address
        },
        write: { Node($0.address.description) }),
      .choice("model", \.model, ["pcie-ats-testdev": .atsTestDevice], "the endpoint model")
        .required,
      .text("unit", \.unit, "the name of the unit that translates the device's DMA").required,
      .number("group", \.group, 0...65535, "the number of the IOMMU group").required,
      .flag("ats", \.hasATS, "ATS capability (PCIe §10.5.1)"),
      .flag(
        "page-requests", \.hasPageRequests, "page request capability; requires ats (PCIe §10.5.2)"),
      .flag("stalls", \.canStall, "transactions can stall when they fault; only behind an SMMUv3"),
      .number(
        "pasid-bits", \.pasidWidth, 0...20,
        "log2 of the PASIDs; 0: no PASID capability (PCIe §7.8.9)"),
      .flag("pasid-execute", \.canExecute, "requests with a PASID can have execute permission"),
      .flag(
        "pasid-privileged", \.canBePrivileged,
        "requests with a PASID can have privileged permission"),
      Field(
        key: "reserved-regions", values: "a list of reserved regions",
        summary: "IOVA ranges that firmware reserves (RMRR, IORT RMR, IVMD)",
        read: { (node, device) throws(FieldError) in
          device.reservedRegions = try node.elements(of: "reserved-regions").read {
            (node) throws(FieldError) in
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

/// A reserved region as a mapping, with the words of /sys/kernel/iommu_groups/N/reserved_regions.
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
        summary: "the first and the last IOVA, whole pages", isRequired: true,
        read: { (node, entry) throws(FieldError) in
          guard let range = node.string.flatMap(Self.range) else {
            throw FieldError(
              node,
              "'range' must be the first and the last address of whole pages, such as "
                + "0xa0000000-0xa0ffffff")
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
        "the kind of reservation; no client can bind a device with a direct region"
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
