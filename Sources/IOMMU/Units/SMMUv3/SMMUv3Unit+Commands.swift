// What commands do (§4). A driver hands them over in batches; a batch ends with a CMD_SYNC, so it
// returns when no transaction can still use what its commands took away.

internal import Synchronization

extension SMMUv3Unit {
  /// §7.1: why a queue stopped. The command at `index` was not consumed.
  package struct CommandError: Error, Equatable {
    package enum Reason: UInt8, Sendable {
      /// CERROR_ILL
      case illegal = 1
      /// CERROR_ABT
      case aborted = 2
      /// CERROR_ATC_INV_SYNC
      case atcTimeout = 3
      /// CERROR_ILL_ACCESS, of a Tegra241's virtual queue.
      case illegalAccess = 4
    }

    package let reason: Reason
    package let index: Int
  }

  /// Executes commands in order, up to the first that is illegal.
  package func execute(_ commands: some Collection<SMMUv3Command>) throws(CommandError) {
    for (index, command) in commands.enumerated() {
      guard execute(command) else { throw CommandError(reason: .illegal, index: index) }
    }
  }

  /// - Returns: false for an illegal command.
  private func execute(_ command: SMMUv3Command) -> Bool {
    guard let operation = command.operation, isLegal(command, operation) else { return false }
    switch operation {
    case .prefetchConfiguration, .prefetchAddress, .respondToPageRequest:
      // A prefetch is a hint; there is no page request to respond to.
      return true
    case .invalidateStream:
      invalidate(streams: UInt64(command.stream)...UInt64(command.stream))
    case .invalidateStreamRange:
      let size = UInt64(2) << UInt64(command.streamRange)
      let first = UInt64(command.stream) & ~(size - 1)
      invalidate(streams: first...first + (size - 1))
    case .invalidateContext:
      invalidateContexts(of: command.stream, descriptor: command.substream)
    case .invalidateAllContexts:
      invalidateContexts(of: command.stream, descriptor: nil)
    case .tlbiAll, .tlbiASID, .tlbiAddress, .tlbiAddressAllASIDs, .tlbiStage12,
      .tlbiStage2Address, .tlbiEverything:
      guard let scope = scope(of: command, operation) else { return false }
      invalidate(scope)
    case .resume:
      answerStalls(
        of: command.stream, tag: command.stallTag,
        command.resumption == .retry ? .success : .failure)
    case .terminateStalls:
      answerStalls(of: command.stream, tag: nil, .failure)
    case .invalidateATC:
      invalidateATC(command)
    case .sync:
      // What a command takes away is gone when it returns.
      return true
    }
    return true
  }

  /// §4.1.6, §4.3 to §4.7: what is CERROR_ILL whatever the other parameters.
  private func isLegal(_ command: SMMUv3Command, _ operation: SMMUv3Command.Operation) -> Bool {
    switch operation {
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
      !command.isSecure && capabilities.stallModel != .terminate && command.resumption != nil
    case .terminateStalls: !command.isSecure && capabilities.stallModel != .terminate
    case .sync: command.completionSignal < 3
    }
  }
}
