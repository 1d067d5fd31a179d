// Command policy-check judges requests by access policies without a cluster, with the API server's own compiler.
//
// It reads a JSON object with `policies` and `cases` from standard input and writes one verdict for each case, as JSON, to
// standard output. A policy is what the chart renders: a ValidatingAdmissionPolicy, or Kyverno's ValidatingPolicy, whose
// functions `resource.*` are answered from the case itself. Which requests a policy is asked about at all (its
// matchConstraints) is the caller's matter. An expression that does not compile ends the program with status 1.
//
// With `rounds` it also measures: `nanoseconds` of a verdict are the processor time of each round. All cases take turns, and pods are
// given as the API server has them, so that the time contains their conversion.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"golang.org/x/sys/unix"
	admissionregistration "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	objects "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/admission"
	plugin "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/environment"
)

type policy struct {
	Kind     string                                              `json:"kind"`
	Metadata metav1.ObjectMeta                                   `json:"metadata"`
	Spec     admissionregistration.ValidatingAdmissionPolicySpec `json:"spec"`
}

// A request as admission sees it, and what the cluster would answer to a policy that asks.
type request struct {
	Policy      string                      `json:"policy"`
	Operation   string                      `json:"operation"`
	Resource    metav1.GroupVersionResource `json:"resource"`
	Subresource string                      `json:"subresource"`
	Namespace   string                      `json:"namespace"`
	Name        string                      `json:"name"`
	User        string                      `json:"user"`
	Object      map[string]any              `json:"object"`
	OldObject   map[string]any              `json:"oldObject"`
	Params      map[string]any              `json:"params"`
	Grants      []string                    `json:"grants"`  // "USER VERB RESOURCE NAMESPACE/NAME"
	Objects     map[string][]any            `json:"objects"` // what resource.Get and resource.List find, by resource
}

type verdict struct {
	Allowed bool   `json:"allowed"`
	Error   bool   `json:"error"` // an expression failed while it was evaluated
	Message string `json:"message"`

	Nanoseconds []int64 `json:"nanoseconds,omitempty"`
}

// The case that is being judged; Kyverno's functions have no other way to it.
var current request

func main() {
	var input struct {
		Policies []policy  `json:"policies"`
		Cases    []request `json:"cases"`
		Rounds   int       `json:"rounds"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&input); err != nil {
		fail("standard input: %v", err)
	}
	compiled := map[string]validating.Validator{}
	for _, p := range input.Policies {
		validator, problems := compile(p)
		if len(problems) > 0 {
			fail("%s %s: %s", p.Kind, p.Metadata.Name, strings.Join(problems, "\n"))
		}
		compiled[p.Kind+" "+p.Metadata.Name] = validator
	}
	verdicts := make([]verdict, 0, len(input.Cases))
	for _, current = range input.Cases {
		validator, found := compiled[current.Policy]
		if !found {
			fail("there is no policy %q", current.Policy)
		}
		verdicts = append(verdicts, question(current).judge(validator))
	}
	runtime.LockOSThread()
	for round := range input.Rounds {
		for i := range input.Cases {
			if round%2 == 1 {
				i = len(input.Cases) - 1 - i
			}
			current = input.Cases[i]
			asked := question(current).typed()
			began := processor()
			asked.judge(compiled[current.Policy])
			verdicts[i].Nanoseconds = append(verdicts[i].Nanoseconds, processor()-began)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(verdicts); err != nil {
		fail("standard output: %v", err)
	}
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "policy-check: "+format+"\n", arguments...)
	os.Exit(1)
}

// compile does what the API server does with a policy that it is given, and names all that does not compile.
func compile(p policy) (validating.Validator, []string) {
	kyverno := p.Kind == "ValidatingPolicy"
	set := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	if kyverno {
		var err error
		set, err = set.Extend(environment.VersionedOptions{IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: kyvernoFunctions()})
		if err != nil {
			return nil, []string{err.Error()}
		}
	}
	compiler, err := plugin.NewCompositedCompiler(set)
	if err != nil {
		return nil, []string{err.Error()}
	}
	declared := plugin.OptionalVariableDeclarations{HasParams: p.Spec.ParamKind != nil, HasAuthorizer: !kyverno}
	inMessages := plugin.OptionalVariableDeclarations{HasParams: p.Spec.ParamKind != nil}
	mode := environment.NewExpressions
	var problems []string
	check := func(what string, result plugin.CompilationResult) {
		if result.Error != nil {
			problems = append(problems, what+": "+result.Error.Detail)
		}
	}
	for _, v := range p.Spec.Variables {
		check("variable "+v.Name, compiler.CompileAndStoreVariable(&validating.Variable{Name: v.Name, Expression: v.Expression}, declared, mode))
	}
	var conditions, validations, messages []plugin.ExpressionAccessor
	for i := range p.Spec.MatchConditions {
		condition := (*matchconditions.MatchCondition)(&p.Spec.MatchConditions[i])
		check("condition "+condition.Name, compiler.CompileCELExpression(condition, declared, mode))
		conditions = append(conditions, condition)
	}
	for i, v := range p.Spec.Validations {
		validation := &validating.ValidationCondition{Expression: v.Expression, Message: v.Message, Reason: v.Reason}
		check(fmt.Sprintf("validation %d", i), compiler.CompileCELExpression(validation, declared, mode))
		validations = append(validations, validation)
		if v.MessageExpression == "" {
			messages = append(messages, nil)
			continue
		}
		message := &validating.MessageExpressionCondition{MessageExpression: v.MessageExpression}
		check(fmt.Sprintf("message %d", i), compiler.CompileCELExpression(message, inMessages, mode))
		messages = append(messages, message)
	}
	closed := admissionregistration.Fail
	matcher := matchconditions.NewMatcher(compiler.CompileCondition(conditions, declared, mode), &closed, "policy", "validate", p.Metadata.Name)
	return validating.NewValidator(
		compiler.CompileCondition(validations, declared, mode), matcher,
		compiler.CompileCondition(nil, declared, mode), compiler.CompileCondition(messages, inMessages, mode), &closed, nil,
	), problems
}

// asked is a request as admission has it.
type asked struct {
	request
	kind              schema.GroupVersionKind
	object, oldObject objects.Object
}

func question(r request) asked {
	a := asked{request: r}
	a.object, a.oldObject = wrap(r.Object, &a.kind), wrap(r.OldObject, &a.kind)
	return a
}

// typed gives a pod as the API server has it while it asks its policies.
func (a asked) typed() asked {
	if found, is := a.object.(*unstructured.Unstructured); is && a.kind.Kind == "Pod" {
		pod := &core.Pod{}
		if err := objects.DefaultUnstructuredConverter.FromUnstructured(found.Object, pod); err != nil {
			fail("%s: %v", a.Name, err)
		}
		a.object = pod
	}
	return a
}

// processor is the processor time of this thread, in nanoseconds.
func processor() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		fail("%v", err)
	}
	return now.Nano()
}

func (r asked) judge(validator validating.Validator) verdict {
	kind, object, oldObject := r.kind, r.object, r.oldObject
	resource := schema.GroupVersionResource{Group: r.Resource.Group, Version: r.Resource.Version, Resource: r.Resource.Resource}
	attributes := admission.NewAttributesRecord(
		object, oldObject, kind, r.Namespace, r.Name, resource, r.Subresource, admission.Operation(r.Operation), nil, false,
		&user.DefaultInfo{Name: r.User},
	)
	versioned := &admission.VersionedAttributes{Attributes: attributes, VersionedKind: kind}
	if object != nil {
		versioned.VersionedObject.Set(object)
	}
	if oldObject != nil {
		versioned.VersionedOldObject.Set(oldObject)
	}
	result := validator.Validate(
		context.Background(), resource, versioned, wrap(r.Params, &schema.GroupVersionKind{}), nil, celconfig.RuntimeCELCostBudget, granter{r.request},
	)
	answer := verdict{Allowed: true}
	for _, decision := range result.Decisions {
		if decision.Action == validating.ActionDeny {
			answer = verdict{Message: decision.Message, Error: decision.Evaluation == validating.EvalError}
		}
	}
	return answer
}

func wrap(content map[string]any, kind *schema.GroupVersionKind) objects.Object {
	if content == nil {
		return nil
	}
	object := &unstructured.Unstructured{Object: content}
	*kind = object.GroupVersionKind()
	return object
}

// granter allows what the case grants, and nothing else.
type granter struct{ request request }

func (g granter) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if g.request.granted(a.GetUser().GetName(), a.GetVerb(), a.GetResource(), a.GetNamespace(), a.GetName()) {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func (r request) granted(name, verb, resource, namespace, object string) bool {
	asked := fmt.Sprintf("%s %s %s %s/%s", name, verb, resource, namespace, object)
	for _, grant := range r.Grants {
		if grant == asked {
			return true
		}
	}
	return false
}

// kyvernoFunctions are those of Kyverno's functions that the chart's policies call, of the same names and types.
func kyvernoFunctions() []cel.EnvOption {
	dyn := cel.MapType(cel.StringType, cel.DynType)
	text := cel.StringType
	return []cel.EnvOption{
		cel.Function("resource.Get", cel.Overload("resource_get", []*cel.Type{text, text, text, text}, dyn, cel.FunctionBinding(get))),
		cel.Function("resource.List", cel.Overload("resource_list", []*cel.Type{text, text, text}, dyn, cel.FunctionBinding(list))),
		cel.Function("resource.Post", cel.Overload("resource_post", []*cel.Type{text, text, dyn}, dyn, cel.FunctionBinding(post))),
	}
}

func get(arguments ...ref.Val) ref.Val {
	for _, object := range current.Objects[arguments[1].Value().(string)] {
		found := &unstructured.Unstructured{Object: object.(map[string]any)}
		if found.GetNamespace() == arguments[2].Value() && found.GetName() == arguments[3].Value() {
			return types.DefaultTypeAdapter.NativeToValue(object)
		}
	}
	return types.NewErr("%s %s/%s not found", arguments[1].Value(), arguments[2].Value(), arguments[3].Value())
}

func list(arguments ...ref.Val) ref.Val {
	items := []any{}
	for _, object := range current.Objects[arguments[1].Value().(string)] {
		if (&unstructured.Unstructured{Object: object.(map[string]any)}).GetNamespace() == arguments[2].Value() {
			items = append(items, object)
		}
	}
	return types.DefaultTypeAdapter.NativeToValue(map[string]any{"items": items})
}

func post(arguments ...ref.Val) ref.Val {
	native, err := arguments[2].ConvertToNative(types.JSONValueType)
	if err != nil {
		return types.WrapErr(err)
	}
	text, err := json.Marshal(native)
	if err != nil {
		return types.WrapErr(err)
	}
	var review struct {
		Kind string `json:"kind"`
		Spec struct {
			User       string   `json:"user"`
			Groups     []string `json:"groups"`
			Attributes struct {
				Verb, Group, Resource, Namespace, Name string
			} `json:"resourceAttributes"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(text, &review); err != nil {
		return types.WrapErr(err)
	}
	if arguments[0].Value() != "authorization.k8s.io/v1" || arguments[1].Value() != "subjectaccessreviews" || review.Kind != "SubjectAccessReview" {
		return types.NewErr("no such resource: %v %v", arguments[0].Value(), arguments[1].Value())
	}
	asked := review.Spec.Attributes
	allowed := current.granted(review.Spec.User, asked.Verb, asked.Resource, asked.Namespace, asked.Name)
	return types.DefaultTypeAdapter.NativeToValue(map[string]any{"status": map[string]any{"allowed": allowed}})
}
