// SPDX-License-Identifier: Apache-2.0

package import IOMMU

/// The address of a PCI function, with the text form of sysfs: `segment:bus:device.function`.
package struct PCIAddress: Hashable, Sendable, CustomStringConvertible {
  package let segment: UInt16
  package let bus: UInt8
  package let device: UInt8
  package let function: UInt8

  package init(segment: UInt16 = 0, bus: UInt8, device: UInt8 = 0, function: UInt8 = 0) {
    self.segment = segment
    self.bus = bus
    self.device = device & 31
    self.function = function & 7
  }

  /// Parses "0000:03:00.1", or "03:00.1", which has segment 0.
  package init?(_ text: some StringProtocol) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2 || parts.count == 3,
      let bus = UInt8(parts[parts.count - 2], radix: 16),
      let segment = parts.count == 3 ? UInt16(parts[0], radix: 16) : 0
    else { return nil }
    let last = parts[parts.count - 1].split(separator: ".", omittingEmptySubsequences: false)
    guard last.count == 2, let device = UInt8(last[0], radix: 16), device < 32,
      let function = UInt8(last[1], radix: 16), function < 8
    else { return nil }
    self.init(segment: segment, bus: bus, device: device, function: function)
  }

  /// The ID of the function's requests. It does not contain the segment.
  package var requester: RequesterID { RequesterID(bus: bus, device: device, function: function) }

  package var description: String {
    Self.hex(segment, 4) + ":" + Self.hex(bus, 2) + ":" + Self.hex(device, 2) + ".\(function)"
  }

  private static func hex(_ value: some BinaryInteger, _ digits: Int) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
  }
}
