// SPDX-License-Identifier: Apache-2.0

package import IOMMU
internal import IOMMUFD
internal import PCI

/// DMA through the domains of a RecordingDriver. A request moves all bytes or none.
package struct RecordingPath: DMAPath {
  package let requester: RequesterID
  package let driver: RecordingDriver
  package let memory: PhysicalMemory

  package init(requester: RequesterID, driver: RecordingDriver, memory: PhysicalMemory) {
    self.requester = requester
    self.driver = driver
    self.memory = memory
  }

  package func read(
    _ iova: IOVA, _ attributes: DMAAttributes, into buffer: UnsafeMutableRawBufferPointer
  ) -> DMAOutcome {
    guard let physical = translate(iova, buffer.count, .read, attributes.pasid) else {
      return .aborted
    }
    return memory.read(physical, into: buffer) == .done ? .completed : .aborted
  }

  package func write(
    _ bytes: UnsafeRawBufferPointer, to iova: IOVA, _ attributes: DMAAttributes
  ) -> DMAOutcome {
    guard let physical = translate(iova, bytes.count, .write, attributes.pasid) else {
      return .aborted
    }
    return memory.write(bytes, to: physical) == .done ? .completed : .aborted
  }

  /// A request of these tests lies inside one mapping.
  private func translate(
    _ iova: IOVA, _ count: Int, _ access: Permissions, _ pasid: PASID?
  ) -> PhysicalAddress? {
    guard let domain = driver.domain(of: requester, pasid: pasid) else { return nil }
    for (start, mapping) in domain.mappings where iova.rawValue >= start {
      let offset = iova.rawValue - start
      guard offset < mapping.length, mapping.permissions.contains(access) else { continue }
      guard UInt64(count) <= mapping.length - offset else { return nil }
      return PhysicalAddress(mapping.physical.rawValue + offset)
    }
    return nil
  }
}
