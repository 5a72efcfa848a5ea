// SPDX-License-Identifier: Apache-2.0

// The execution of commands (§2.4). Every invalidation here is complete when it returns, including
// requests that still used what it removed, so a COMPLETION_WAIT behind it has nothing to wait for.

internal import Synchronization

extension AMDViUnit {
  /// §2.5.6 ILLEGAL_COMMAND_ERROR: the unit stopped at the command at `index`.
  package struct IllegalCommand: Error, Equatable {
    package let index: Int
  }

  /// Executes commands in order, up to the first illegal one.
  package func execute(_ commands: some Collection<AMDViCommand>) throws(IllegalCommand) {
    for (index, command) in commands.enumerated() {
      guard execute(command) else { throw IllegalCommand(index: index) }
    }
  }

  /// - Returns: `false` for an illegal command.
  private func execute(_ command: AMDViCommand) -> Bool {
    guard let opcode = command.opcode, isLegal(command, opcode) else { return false }
    switch opcode {
    case .completionWait:
      if command.stores {
        withUnsafeBytes(of: command.data.littleEndian) { data in
          _ = memory.write(data, to: command.storeAddress)
        }
      }
    case .invalidateDeviceTableEntry:
      invalidate(entryOf: command.device)
    case .invalidatePages:
      invalidatePages(command)
    case .invalidateAll:
      invalidateAll()
    case .invalidateDeviceTLB:
      invalidateDeviceTLB(command)
    case .completePageRequest:
      // The group index identifies the group, so the PASID of the command is not needed.
      ports.forEach(where: { $0 == command.device }) { _, deviceTLB in
        deviceTLB.answer(group: command.pageRequestGroup, command.pageResponse)
      }
    case .invalidateInterruptTable, .prefetchPages:
      // There is no interrupt table, and a prefetch is a hint.
      break
    }
    return true
  }

  /// Returns whether the reserved bits of a command are clear and the unit supports the command.
  private func isLegal(_ command: AMDViCommand, _ opcode: AMDViCommand.Opcode) -> Bool {
    let (lower, upper) = (command.words[0], command.words[1])
    let withoutOpcode = lower & ~(0xf << 60)
    return switch opcode {
    case .completionWait: lower >> 52 & 0xff == 0
    case .invalidateDeviceTableEntry: withoutOpcode >> 16 == 0 && upper == 0
    case .invalidatePages:
      withoutOpcode & ~(0xf_ffff | 0xffff << 32) == 0 && upper & 0xff8 == 0
        && (!command.isForGuest || capabilities.guestTranslation)
    case .invalidateDeviceTLB: capabilities.deviceTLBs && upper & 0xfca == 0
    case .invalidateInterruptTable: withoutOpcode >> 16 == 0 && upper == 0
    case .prefetchPages: true
    case .completePageRequest: capabilities.pageRequests
    case .invalidateAll: capabilities.invalidateAll && withoutOpcode == 0 && upper == 0
    }
  }
}
