// SPDX-License-Identifier: Apache-2.0

// The execution of commands (§4). A driver submits commands in batches that end with a CMD_SYNC.
// Every invalidation here is complete when it returns, including transactions that still used what
// it removed, so CMD_SYNC has nothing to wait for.

internal import Synchronization

extension SMMUv3Unit {
  /// The error that stopped a command queue (§7.1). The command at `index` was not consumed.
  package struct CommandError: Error, Equatable {
    package enum Reason: UInt8, Sendable {
      /// CERROR_ILL
      case illegal = 1
      /// CERROR_ABT
      case aborted = 2
      /// CERROR_ATC_INV_SYNC
      case atcTimeout = 3
      /// CERROR_ILL_ACCESS, an error of a Tegra241's virtual command queue.
      case illegalAccess = 4
    }

    package let reason: Reason
    package let index: Int
  }

  /// Executes commands in order, up to the first illegal one.
  package func execute(_ commands: some Collection<SMMUv3Command>) throws(CommandError) {
    for (index, command) in commands.enumerated() {
      guard execute(command) else { throw CommandError(reason: .illegal, index: index) }
    }
  }

  /// - Returns: `false` for an illegal command.
  private func execute(_ command: SMMUv3Command) -> Bool {
    guard let opcode = command.opcode, isLegal(command, opcode) else { return false }
    switch opcode {
    case .prefetchConfiguration, .prefetchAddress, .respondToPageRequest:
      // A prefetch is a hint, and there are no page requests to respond to.
      return true
    case .invalidateStream:
      invalidate(streams: command.stream...command.stream)
    case .invalidateStreamRange:
      let size = UInt64(2) << UInt64(command.streamRange)
      let first = UInt64(command.stream.rawValue) & ~(size - 1)
      invalidate(
        streams: StreamID(rawValue: UInt32(first))...StreamID(rawValue: UInt32(first + (size - 1))))
    case .invalidateContext:
      invalidateContexts(of: command.stream, descriptor: command.substream.rawValue)
    case .invalidateAllContexts:
      invalidateContexts(of: command.stream, descriptor: nil)
    case .tlbiAll, .tlbiASID, .tlbiAddress, .tlbiAddressAllASIDs, .tlbiStage12,
      .tlbiStage2Address, .tlbiEverything:
      guard let scope = scope(of: command, opcode) else { return false }
      invalidate(scope)
    case .resume:
      answerStalls(
        of: command.stream, tag: command.stallTag,
        command.resumeResponse == .retry ? .success : .failure)
    case .terminateStalls:
      answerStalls(of: command.stream, tag: nil, .failure)
    case .invalidateATC:
      invalidateATC(command)
    case .sync:
      // All commands before are complete already.
      return true
    }
    return true
  }

  /// Returns whether the unit supports the command. §4.1.6, §4.3 to §4.7 list the commands that are
  /// CERROR_ILL whatever their other parameters.
  private func isLegal(_ command: SMMUv3Command, _ opcode: SMMUv3Command.Opcode) -> Bool {
    switch opcode {
    case .prefetchConfiguration, .prefetchAddress, .invalidateStream, .invalidateStreamRange:
      !command.isSecure
    case .invalidateContext, .invalidateAllContexts:
      !command.isSecure && capabilities.stage1
    case .tlbiAll, .tlbiASID, .tlbiAddress, .tlbiAddressAllASIDs: capabilities.stage1
    case .tlbiStage12, .tlbiStage2Address: capabilities.stage2
    case .tlbiEverything: true
    case .invalidateATC: !command.isSecure && capabilities.ats && command.pageCountShift <= 52
    // There is no PRI queue.
    case .respondToPageRequest: false
    case .resume:
      !command.isSecure && capabilities.stallModel != .terminate && command.resumeResponse != nil
    case .terminateStalls: !command.isSecure && capabilities.stallModel != .terminate
    case .sync: command.completionSignal < 3
    }
  }
}
