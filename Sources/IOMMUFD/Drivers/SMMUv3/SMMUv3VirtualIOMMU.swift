// SPDX-License-Identifier: Apache-2.0

// The driver's side of a vIOMMU on an SMMUv3 (struct arm_vsmmu). The unit tags the guest's
// translations with the VMID of the vIOMMU's parent, and the guest invalidates them with commands.

internal import CUAPI
internal import IOMMU
internal import SystemPackage

final class SMMUv3VirtualIOMMU: VirtualIOMMU {
  let parent: SMMUv3PagingDomain
  let host: any VirtualIOMMUHost

  init(on parent: SMMUv3PagingDomain, host: any VirtualIOMMUHost) {
    self.parent = parent
    self.host = host
  }

  /// arm-smmu-v3: arm_vsmmu_alloc_domain_nested()
  func makeNestedDomain(
    for device: RequesterID, flags: NestedDomainFlags, data: UserData
  ) throws(Errno) -> any NestedDomain {
    guard flags.isEmpty else { throw .notSupported }
    return try SMMUv3NestedDomain(of: self, data: data)
  }

  // MARK: Invalidation

  /// CMDQ_BATCH_ENTRIES - 1. A batch and its CMD_SYNC fit into the kernel's bitmap.
  private static let batchLength = 63

  /// Sends the guest's commands to the unit in batches. A command that cannot be converted ends the
  /// call. The commands before it in its batch are counted as handled but not sent (arm-smmu-v3:
  /// arm_vsmmu_cache_invalidate()).
  func invalidate(_ entries: UserDataArray, handled: inout Int) throws(Errno) {
    try entries.requireRoom(for: iommu_viommu_arm_smmuv3_invalidate.self, handled: &handled)
    let commands = try entries.loadAll(
      iommu_viommu_arm_smmuv3_invalidate.self,
      type: IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3.rawValue)
    var batch: [SMMUv3Command] = []
    for command in commands {
      batch.append(try convert(command))
      handled += 1
      guard handled == commands.count || batch.count == Self.batchLength else { continue }
      send(batch)
      batch.removeAll(keepingCapacity: true)
    }
  }

  /// Executes a batch. When the unit finds a command illegal, the kernel replaces the command by a
  /// CMD_SYNC and continues (arm-smmu-v3: __arm_smmu_cmdq_skip_err()).
  private func send(_ batch: [SMMUv3Command]) {
    var rest = batch[...]
    while !rest.isEmpty {
      do throws(SMMUv3Unit.CommandError) {
        try parent.driver.unit.execute(rest)
        return
      } catch {
        rest = rest.dropFirst(error.index + 1)
      }
    }
  }

  /// Returns the guest's command with the VMID of the vIOMMU's parent, or with the stream ID of the
  /// physical device (arm-smmu-v3: arm_vsmmu_convert_user_cmd()).
  private func convert(
    _ command: iommu_viommu_arm_smmuv3_invalidate
  ) throws(Errno) -> SMMUv3Command {
    let command = SMMUv3Command(
      lower: UInt64(littleEndian: command.cmd.0), upper: UInt64(littleEndian: command.cmd.1))
    guard SMMUv3GuestCommand.isAllowed(command, on: parent.driver.unit.capabilities) else {
      throw .ioError
    }
    if command.opcode == .tlbiEverything { return .tlbi(.tlbiAll, vmid: parent.tag) }
    let confined = command.confined(toVMID: parent.tag) { stream in
      host.device(virtualID: UInt64(stream.rawValue)).map { StreamID($0) }
    }
    guard let confined else { throw .ioError }
    return confined
  }
}
