// Invalidations that are to fail: a test plans that the n-th operation for a function is not done, and
// which bit of the fault status register says so (VT-d §11.4.7.1). The unit itself refuses nothing; who
// submits an operation that may fail asks first.

internal import Synchronization

/// FSTS_REG
package enum VTdInvalidationError: Sendable {
  /// ICE: the completion of a device-TLB invalidation was not one, or came from somebody else.
  case completion
  /// ITE: the completion did not come in time.
  case timeout
  /// IQE: the descriptor was not taken from the queue.
  case queue
}

/// An operation of the invalidation queue, and for which functions it is done.
package enum VTdQueueOperation: Sendable {
  case deviceTLB(RequesterID)
  /// Of tables that these use.
  case iotlb([RequesterID])

  fileprivate func concerns(_ requester: RequesterID) -> Bool {
    switch self {
    case .deviceTLB(let function): function == requester
    case .iotlb(let functions): functions.contains(requester)
    }
  }

  fileprivate var isDeviceTLB: Bool {
    if case .deviceTLB = self { true } else { false }
  }
}

struct PlannedInvalidationFailure {
  let requester: RequesterID
  let error: VTdInvalidationError
  /// Other operations are not counted.
  let isOfDeviceTLB: Bool
  /// Operations until and with the one that fails.
  var remaining: UInt32
}

extension VTdUnit {
  /// Plans that wait at a time, of one function.
  package static let plannedFailureLimit = 64

  /// - Parameters:
  ///   - count: 1: the next operation.
  ///   - deviceTLBOnly: operations of the IOTLB do not count.
  /// - Returns: false when too many wait.
  package func planFailure(
    _ error: VTdInvalidationError, of requester: RequesterID, after count: UInt32,
    deviceTLBOnly: Bool
  ) -> Bool {
    plannedFailures.withLock { plans in
      guard plans.count(where: { $0.requester == requester }) < Self.plannedFailureLimit else {
        return false
      }
      plans.append(
        PlannedInvalidationFailure(
          requester: requester, error: error, isOfDeviceTLB: deviceTLBOnly,
          remaining: max(count, 1)))
      return true
    }
  }

  package func forgetPlannedFailures(of requester: RequesterID) {
    plannedFailures.withLock { $0.removeAll { $0.requester == requester } }
  }

  /// Counts `operation`.
  /// - Returns: why it is not done, and for which function that was planned; nil: it is to be done.
  package func failure(
    of operation: VTdQueueOperation
  ) -> (error: VTdInvalidationError, requester: RequesterID)? {
    plannedFailures.withLock { plans in
      for index in plans.indices where operation.concerns(plans[index].requester) {
        if plans[index].isOfDeviceTLB && !operation.isDeviceTLB { continue }
        plans[index].remaining -= 1
      }
      // Of several plans for the same operation the oldest is told.
      guard let due = plans.first(where: { $0.remaining == 0 }) else { return nil }
      plans.removeAll { $0.remaining == 0 }
      return (due.error, due.requester)
    }
  }
}
